// @ts-check
/**
 * Sticks, keys and gamepads as numbers from -1 to 1; forward, right and up are positive. What the robot makes of them (its own dead
 * zone, expo, top speed) is set with the device. No browser object is touched.
 *
 * @typedef {import('./control.js').Hands} Hands
 *
 * @typedef {{axis: number, rest: number, full: number} | {button: number}} Source one direction of a gamepad's stick, pedal or key
 * @typedef {'forward' | 'back' | 'left' | 'right' | 'panLeft' | 'panRight' | 'tiltUp' | 'tiltDown' | 'stop' | 'wheel'} Deed
 * @typedef {Partial<Record<Deed, Source[]>>} Binding
 *
 * @typedef {object} PadState as the Gamepad API has it
 * @property {string} id
 * @property {string} mapping
 * @property {readonly number[]} axes
 * @property {readonly {pressed: boolean, value: number}[]} buttons
 */

/** A thumb that rests is never quite still. */
const THUMB_ZONE = 0.08;
/** Sticks of a gamepad do not quite come back to the middle; without this it would never be armed. */
const PAD_ZONE = 0.12;
const RISE_MS = 220;
const AT_ONCE = 0.35;
const USUAL = 0.6;
const SLOW = 0.3;

/** @returns {Hands} */
export const still = () => ({ throttle: 0, steer: 0, pan: 0, tilt: 0 });

/** @param {number} value */
const clamp = (value) => Math.max(-1, Math.min(1, value));

/** Nothing within the zone, and from its edge on all of the range. @param {number} value @param {number} zone */
export function beyond(value, zone) {
  const size = Math.abs(value);
  return size <= zone ? 0 : clamp((Math.sign(value) * (size - zone)) / (1 - zone));
}

/**
 * Where a thumb is on its stick.
 * @param {number} dx px right of the middle @param {number} dy px below it @param {number} radius px
 * @returns {{x: number, y: number, knobX: number, knobY: number}} `x`, `y` for driving; the knob in px, kept within the ring
 */
export function stick(dx, dy, radius) {
  const length = Math.hypot(dx, dy);
  const shrink = length > radius ? radius / length : 1;
  const [knobX, knobY] = [dx * shrink, dy * shrink];
  // One who pushes straight ahead means straight ahead.
  return { x: beyond(knobX / radius, THUMB_ZONE), y: beyond(-knobY / radius, THUMB_ZONE) + 0, knobX, knobY };
}

/** All hands together. @param {Hands[]} all @returns {Hands} */
export function together(...all) {
  const sum = still();
  for (const hands of all) for (const role of /** @type {(keyof Hands)[]} */ (Object.keys(sum))) sum[role] = clamp(sum[role] + hands[role]);
  return sum;
}

/** By place on the keyboard, not by letter. @type {Record<string, [keyof Hands, number]>} */
const KEYS = {
  KeyW: ['throttle', 1],
  ArrowUp: ['throttle', 1],
  KeyS: ['throttle', -1],
  ArrowDown: ['throttle', -1],
  KeyD: ['steer', 1],
  ArrowRight: ['steer', 1],
  KeyA: ['steer', -1],
  ArrowLeft: ['steer', -1],
  KeyL: ['pan', 1],
  KeyJ: ['pan', -1],
  KeyI: ['tilt', 1],
  KeyK: ['tilt', -1],
};

/** Keys held down. A key is all or nothing, so it rises quickly instead of at once; a key let go is gone at once. */
export class Keys {
  /** Full speed, with Shift. */
  fast = false;
  /** With Ctrl. */
  slow = false;
  /** @type {Map<string, number>} since when, by code */
  #down = new Map();

  /**
   * @param {string} code as `KeyboardEvent.code` @param {number} now ms
   * @param {boolean} [again] it repeats; one that was let go of, or was pressed for something else, begins nothing by that
   * @returns {boolean} whether it drives
   */
  press(code, now, again = false) {
    if (!KEYS[code]) return false;
    if (!again && !this.#down.has(code)) this.#down.set(code, now);
    return true;
  }

  /** @param {string} code @returns {boolean} whether it drove */
  release(code) {
    return this.#down.delete(code);
  }

  /**
   * What an event of any key tells besides.
   * @param {{shiftKey: boolean, ctrlKey: boolean, metaKey: boolean, key: string}} event
   * @returns {boolean} whether nobody knows which keys are down: macOS tells of none that is let go while Cmd is held
   */
  modifiers({ shiftKey, ctrlKey, metaKey, key }) {
    const lost = metaKey || key === 'Meta';
    if (lost) this.clear();
    this.fast = shiftKey;
    this.slow = ctrlKey;
    return lost;
  }

  /** The window lost the keyboard: nobody knows which keys are down. */
  clear() {
    this.#down.clear();
    this.fast = this.slow = false;
  }

  get any() {
    return this.#down.size > 0;
  }

  /** @param {number} now ms @returns {Hands} */
  hands(now) {
    const hands = still();
    const top = this.fast ? 1 : this.slow ? SLOW : USUAL;
    for (const role of /** @type {(keyof Hands)[]} */ (Object.keys(hands))) {
      const held = [...this.#down].filter(([code]) => KEYS[code][0] === role);
      const directions = new Set(held.map(([code]) => KEYS[code][1]));
      // Both directions at once are none.
      if (directions.size !== 1) continue;
      const since = Math.min(...held.map(([, at]) => at));
      const risen = Math.min(1, AT_ONCE + ((1 - AT_ONCE) * (now - since)) / RISE_MS);
      hands[role] = [...directions][0] * top * risen;
    }
    return hands;
  }
}

/** The Gamepad API's standard layout: left stick and triggers drive, the right stick looks, B stops, Start takes the wheel. @type {Binding} */
export const STANDARD = {
  forward: [{ axis: 1, rest: 0, full: -1 }, { button: 7 }],
  back: [{ axis: 1, rest: 0, full: 1 }, { button: 6 }],
  left: [{ axis: 0, rest: 0, full: -1 }, { button: 14 }],
  right: [{ axis: 0, rest: 0, full: 1 }, { button: 15 }],
  panLeft: [{ axis: 2, rest: 0, full: -1 }],
  panRight: [{ axis: 2, rest: 0, full: 1 }],
  tiltUp: [{ axis: 3, rest: 0, full: -1 }],
  tiltDown: [{ axis: 3, rest: 0, full: 1 }],
  stop: [{ button: 1 }],
  wheel: [{ button: 9 }],
};

/** @param {PadState} pad @param {Source} source @returns {number | null} 0 to 1; null where nothing is told of it */
function level(pad, source) {
  const value = 'button' in source ? pad.buttons[source.button]?.value : pad.axes[source.axis];
  // Some pads say nothing of a pedal until it is touched.
  if (value === undefined) return null;
  if ('button' in source) return beyond(value, PAD_ZONE);
  return source.full === source.rest ? 0 : Math.max(0, beyond(Math.min(1, (value - source.rest) / (source.full - source.rest)), PAD_ZONE));
}

/** What stops and what asks for the wheel need no rest before. */
const AT_ONCE_TOO = ['stop', 'wheel'];

/**
 * Note what is seen at rest: each source for itself, since two pedals that say the same before they are touched cancel each other out.
 * @param {PadState} pad @param {Binding} binding @param {Set<string>} rested sources, as `deed:number`; this adds to it
 * @returns {boolean} whether one is moved that was never at rest
 */
export function noteRest(pad, binding, rested) {
  let moved = false;
  for (const [deed, sources] of Object.entries(binding)) {
    if (AT_ONCE_TOO.includes(deed)) continue;
    sources.forEach((source, i) => {
      const value = level(pad, source);
      if (value === 0) rested.add(`${deed}:${i}`);
      else if (value !== null && !rested.has(`${deed}:${i}`)) moved = true;
    });
  }
  return moved;
}

/**
 * @param {PadState} pad
 * @param {Binding} binding
 * @param {Set<string>} [rested] of `noteRest`: no other source moves anything. All do without it
 * @returns {Hands & {stop: boolean, wheel: boolean}}
 */
export function padHands(pad, binding, rested) {
  const of = (/** @type {Deed} */ deed) => {
    const free = !rested || AT_ONCE_TOO.includes(deed);
    return Math.max(0, ...(binding[deed] ?? []).map((source, i) => (free || rested.has(`${deed}:${i}`) ? (level(pad, source) ?? 0) : 0)));
  };
  return {
    throttle: of('forward') - of('back'),
    steer: of('right') - of('left'),
    pan: of('panRight') - of('panLeft'),
    tilt: of('tiltUp') - of('tiltDown'),
    stop: of('stop') > 0.5,
    wheel: of('wheel') > 0.5,
  };
}

/** What was stored, if it is a binding. @param {string} text @returns {Binding | null} */
export function bindingFrom(text) {
  try {
    const binding = JSON.parse(text);
    const fits = (/** @type {any} */ source) =>
      Number.isInteger(source?.button) || (Number.isInteger(source?.axis) && Number.isFinite(source.rest) && Number.isFinite(source.full));
    const deeds = Object.entries(binding ?? {});
    return deeds.length && deeds.every(([, sources]) => Array.isArray(sources) && sources.every(fits)) ? binding : null;
  } catch {
    return null;
  }
}
