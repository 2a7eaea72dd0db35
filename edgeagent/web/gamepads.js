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

/** A pad that is moved so far takes over from another that is moved; one that trembles does not. */
const DECIDED = 0.3;

/**
 * What a pad has shown at rest since it appeared, each stick and pedal for itself (`noteRest`), and how it was read last. The rest of it
 * drives nothing: a pad that is switched on may have its trigger held, or say 0 of a pedal that rests at -1.
 * @param {string} id
 */
const fresh = (id) => ({ id, sources: /** @type {Set<string>} */ (new Set()), size: 0, stop: false, wheel: false });

/** How far they are moved, 0 to 1. */
const sizeOf = (hands = still()) => Math.max(...Object.values(hands).map(Math.abs));

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
  /** By its index. @type {Map<number, ReturnType<typeof fresh>>} */
  #known = new Map();

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
    for (const [index, { id }] of this.#known) if (id === pad.id) this.#known.set(index, fresh(id));
  }

  /** What the pad wants that was moved last, and what was just pressed on any; sets `lost` where the one that was in use is gone. */
  read() {
    const all = this.#all();
    for (const [index, { id }] of this.#known) if (!all.some((pad) => pad.index === index && pad.id === id)) this.#known.delete(index);
    this.lost = this.#index >= 0 && !this.#known.has(this.#index);
    if (this.lost) this.#index = -1;
    const result = { ...still(), stop: false, wheel: false };
    this.waits = false;
    if (this.binding) {
      for (const [index, { id }] of this.#known) this.#known.set(index, fresh(id));
      return result;
    }
    const read = new Map();
    let [takes, asks] = [-1, -1];
    for (const pad of all) {
      const { index } = pad;
      const binding = this.bindingOf(pad);
      if (!binding) continue;
      const known = this.#known.get(index) ?? fresh(pad.id);
      if (noteRest(pad, binding, known.sources)) this.waits = true;
      const { stop, wheel, ...hands } = padHands(pad, binding, known.sources);
      const size = sizeOf(hands);
      if (size > DECIDED && known.size <= DECIDED) takes = index;
      if ((size && !known.size) || (wheel && !known.wheel) || (stop && this.#index < 0)) asks = index;
      result.stop ||= stop && !known.stop;
      result.wheel ||= wheel && !known.wheel;
      this.#known.set(index, { ...known, size, stop, wheel });
      read.set(index, hands);
    }
    // One that is held all the while does not go on where another was let go.
    if (takes < 0 && !sizeOf(read.get(this.#index))) takes = asks;
    if (takes >= 0) this.#index = takes;
    return Object.assign(result, read.get(this.#index));
  }

  /** Shake the one in use. */
  rumble() {
    const pad = /** @type {any} */ (this.#index < 0 ? null : this.pad);
    pad?.vibrationActuator?.playEffect?.('dual-rumble', { duration: 250, strongMagnitude: 1, weakMagnitude: 0.6 })?.catch?.(() => {});
  }
}
