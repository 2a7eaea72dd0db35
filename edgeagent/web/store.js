// @ts-check
/**
 * State in one place: an immutable object, patched, and listeners that are told once for each real change.
 * @template {object} T
 */
export class Store {
  /** @type {T} */
  #state;
  /** @type {Set<(state: T) => void>} */
  #listeners = new Set();

  /** @param {T} initial */
  constructor(initial) {
    this.#state = Object.freeze({ ...initial });
  }

  get state() {
    return this.#state;
  }

  /**
   * Merge `patch`; listeners hear of it only when a value differs (compared by identity).
   * @param {Partial<T>} patch
   */
  set(patch) {
    const keys = /** @type {(keyof T)[]} */ (Object.keys(patch));
    if (keys.every((key) => Object.is(this.#state[key], patch[key]))) return;
    this.#state = Object.freeze({ ...this.#state, ...patch });
    for (const listener of [...this.#listeners]) listener(this.#state);
  }

  /**
   * @param {(state: T) => void} listener called at each change, not at once
   * @returns {() => void} ends the subscription
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
