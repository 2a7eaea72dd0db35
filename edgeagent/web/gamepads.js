// @ts-check
/**
 * The gamepads of the browser, read when asked. One with the standard layout works at once; any other is bound first (`binding.js`), which
 * this browser remembers.
 *
 * @typedef {import('./inputs.js').Binding} Binding
 * @typedef {import('./inputs.js').PadState} PadState
 */
import { preference } from './dom.js';
import { bindingFrom, noteRest, padHands, STANDARD, still } from './inputs.js';

export class Pads {
  /** The one that was moved last. @type {number} */
  #index = -1;
  /** @type {Map<string, Binding | null>} */
  #bindings = new Map();
  /** Whether one that drove has gone. */
  lost = false;
  /** While one is being bound, none drives anything. */
  binding = false;
  /** Whether one is moved that drives nothing yet. */
  waits = false;
  /**
   * What each has shown at rest since it appeared, by its index: each stick and pedal for itself (`noteRest`). The rest of it drives
   * nothing: a pad that is switched on may have its trigger held, or say 0 of a pedal that rests at -1.
   * @type {Map<number, {id: string, sources: Set<string>}>}
   */
  #rested = new Map();

  /** @returns {Gamepad[]} */
  #all() {
    try {
      return [...(navigator.getGamepads?.() ?? [])].flatMap((pad) => (pad?.connected ? pad : []));
    } catch {
      // A policy of the page around may forbid it.
      return [];
    }
  }

  /** @returns {Gamepad | null} */
  get pad() {
    const all = this.#all();
    return all.find((pad) => pad.index === this.#index) ?? all[0] ?? null;
  }

  /** @param {PadState} pad @returns {Binding | null} null for one that is to be bound first */
  bindingOf(pad) {
    const known = this.#bindings.get(pad.id);
    if (known !== undefined) return known;
    // Under `pad.` there may be one of before: sticks and pedals bound about whatever they said at first, which nobody can tell by now.
    const binding = bindingFrom(preference.get(`bound.${pad.id}`, '')) ?? (pad.mapping === 'standard' ? STANDARD : null);
    this.#bindings.set(pad.id, binding);
    return binding;
  }

  /** @param {PadState} pad @param {Binding | null} binding null forgets it */
  bind(pad, binding) {
    preference.set(`bound.${pad.id}`, binding ? JSON.stringify(binding) : '');
    this.#bindings.delete(pad.id);
    // Its sources are others now.
    for (const { id, sources } of this.#rested.values()) if (id === pad.id) sources.clear();
  }

  /** What the pads want now; sets `lost` where the one that was in use is gone. */
  read() {
    const all = this.#all();
    for (const [index, { id }] of this.#rested) if (!all.some((pad) => pad.index === index && pad.id === id)) this.#rested.delete(index);
    this.lost = this.#index >= 0 && !this.#rested.has(this.#index);
    if (this.lost) this.#index = -1;
    const nothing = { ...still(), stop: false, wheel: false };
    this.waits = false;
    if (this.binding) {
      for (const { sources } of this.#rested.values()) sources.clear();
      return nothing;
    }
    let result = nothing;
    for (const pad of all) {
      const binding = this.bindingOf(pad);
      if (!binding) continue;
      const { sources } = this.#rested.get(pad.index) ?? { sources: /** @type {Set<string>} */ (new Set()) };
      this.#rested.set(pad.index, { id: pad.id, sources });
      if (noteRest(pad, binding, sources)) this.waits = true;
      const hands = padHands(pad, binding, sources);
      const used = Object.values(hands).some((value) => value !== 0 && value !== false);
      if (used && (this.#index < 0 || result === nothing)) this.#index = pad.index;
      if (used || pad.index === this.#index) result = hands;
    }
    return result;
  }

  /** Shake the one in use. */
  rumble() {
    const pad = /** @type {any} */ (this.#index < 0 ? null : this.pad);
    pad?.vibrationActuator?.playEffect?.('dual-rumble', { duration: 250, strongMagnitude: 1, weakMagnitude: 0.6 })?.catch?.(() => {});
  }
}
