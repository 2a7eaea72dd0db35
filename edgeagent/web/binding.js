// @ts-check
/**
 * How a gamepad is bound that is not known: the person is asked for one movement after the other, and lets go after each. No browser
 * object is touched; time is an argument (ms).
 *
 * A lever is bound by where it comes to rest afterwards, not by where it was: many a pedal says 0 until it is touched for the first time,
 * and rests at its end from then on. Bound about that 0 it would drive backwards with the hands off.
 *
 * @typedef {import('./inputs.js').Binding} Binding
 * @typedef {import('./inputs.js').Deed} Deed
 * @typedef {import('./inputs.js').PadState} PadState
 * @typedef {import('./inputs.js').Source} Source
 */

/** Without any change for so long, everything has come to rest. */
export const REST_MS = 700;
/** A movement that is meant goes at least so far; and a lever whose rest is beyond this is a pedal. */
const FAR = 0.5;
/** Levers that rest tremble by less. */
const NOISE = 0.1;

/** What is asked for, in this order; a stick answers for its other way too. @type {[Deed, string, Deed | null, 'drive' | 'look' | 'all'][]} */
export const STEPS = [
  ['forward', 'Drive forward: push the stick or pedal, then let go', 'back', 'drive'],
  ['back', 'Drive back: pull the stick or pedal, then let go', null, 'drive'],
  ['right', 'Steer to the right, then let go', 'left', 'drive'],
  ['left', 'Steer to the left, then let go', null, 'drive'],
  ['panRight', 'Look to the right, then let go', 'panLeft', 'look'],
  ['panLeft', 'Look to the left, then let go', null, 'look'],
  ['tiltUp', 'Look up, then let go', 'tiltDown', 'look'],
  ['tiltDown', 'Look down, then let go', null, 'look'],
  ['stop', 'Press the button that is to stop everything', null, 'all'],
];

/** The same stick the other way; null for a button or a pedal, which have no other way. @param {Source} source @returns {Source | null} */
export function opposite(source) {
  if ('button' in source || Math.abs(source.rest) > FAR) return null;
  return { axis: source.axis, rest: source.rest, full: -source.full };
}

export class Binder {
  /** @type {Binding} */
  binding = {};
  /** Whether all has been asked. */
  done = false;
  #looks;
  #step = 0;
  /** Everything as it was when this was asked: axes, then buttons. @type {number[] | null} */
  #begin = null;
  /** @type {number[]} */
  #low = [];
  /** @type {number[]} */
  #high = [];
  /** @type {number[]} */
  #last = [];
  #since = 0;

  /** @param {boolean} looks whether there is something to look about with */
  constructor(looks) {
    this.#looks = looks;
  }

  /** What the person is asked. @returns {{text: string, at: number, of: number}} */
  get question() {
    const steps = STEPS.filter((each, i) => this.#asks(each) && (i <= this.#step || !this.binding[each[0]]));
    return { text: STEPS[this.#step][1], at: steps.indexOf(STEPS[this.#step]) + 1, of: steps.length };
  }

  /** @param {typeof STEPS[0]} step */
  #asks(step) {
    return this.#looks || step[3] !== 'look';
  }

  /** @param {PadState} pad @param {number} now @returns {boolean} whether the question is another one now */
  look(pad, now) {
    const { axes, buttons } = pad;
    const all = [...axes, ...buttons.map(({ value, pressed }) => Math.max(value, pressed ? 1 : 0))];
    if (!this.#begin || all.length !== this.#begin.length) this.#anew(all);
    all.forEach((value, i) => ([this.#low[i], this.#high[i]] = [Math.min(this.#low[i], value), Math.max(this.#high[i], value)]));
    if (this.#last.length !== all.length || all.some((value, i) => Math.abs(value - this.#last[i]) > NOISE)) [this.#last, this.#since] = [all, now];
    if (now - this.#since < REST_MS) return false;
    const source = this.#moved(all, axes.length);
    if (source) this.#next(source);
    return source !== null;
  }

  /** Go without what is asked for. */
  skip() {
    this.#next(null);
  }

  /** @param {number[]} all */
  #anew(all) {
    this.#begin = all;
    [this.#low, this.#high] = [[...all], [...all]];
  }

  /**
   * What went out and came back furthest. What has only come to another place is no answer: it is held, or told of for the first time.
   * @param {number[]} rest @param {number} axes how many of them @returns {Source | null}
   */
  #moved(rest, axes) {
    const begin = /** @type {number[]} */ (this.#begin);
    let [most, found] = [FAR, -1];
    rest.forEach((value, i) => {
      const up = this.#high[i] - Math.max(begin[i], value);
      const down = Math.min(begin[i], value) - this.#low[i];
      // An axis beats the button that some pads report for the same trigger.
      if (Math.max(up, down) > most) [most, found] = [Math.max(up, down), i];
    });
    if (found < 0) return null;
    if (found >= axes) return { button: found - axes };
    const [value, low, high] = [rest[found], this.#low[found], this.#high[found]];
    if (high - value > FAR && value - low > FAR) {
      // Both ways, and in the middle by now: a stick that was waved about, or a pedal held half down. Once more.
      this.#anew(rest);
      return null;
    }
    const end = high - value > value - low ? high : low;
    return { axis: found, rest: value, full: Math.abs(value) > 1.1 ? end : Math.sign(end - value) * Math.max(1, Math.abs(value)) };
  }

  /** @param {Source | null} source */
  #next(source) {
    const [deed, , other] = STEPS[this.#step];
    if (source) this.binding[deed] = [source];
    const back = source && other ? opposite(source) : null;
    if (back && other) this.binding[other] = [back];
    const next = STEPS.findIndex((each, i) => i > this.#step && !this.binding[each[0]] && this.#asks(each));
    this.#begin = null;
    if (next < 0) this.done = true;
    else this.#step = next;
  }
}
