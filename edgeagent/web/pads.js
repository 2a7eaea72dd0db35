// @ts-check
/**
 * Gamepads, and the sheet that says how one drives. A pad with the standard layout works at once; any other is bound by moving what is
 * asked for, and remembered in this browser.
 *
 * @typedef {import('./inputs.js').Binding} Binding
 * @typedef {import('./inputs.js').Deed} Deed
 * @typedef {import('./inputs.js').PadState} PadState
 */
import { el, preference, setText } from './dom.js';
import { insecure } from './drive-words.js';
import { bindingFrom, moved, opposite, padHands, STANDARD, still } from './inputs.js';
import { base } from './styles.js';
import { forms, pads as style } from './robot-style.js';

/** A lever that stays for so long where it was put rests there. */
const REST_MS = 1500;

/** What is asked for, in this order; a stick answers for its other way too. @type {[Deed, string, Deed | null, 'drive' | 'look' | 'all'][]} */
const STEPS = [
  ['forward', 'Drive forward: push the stick or pedal', 'back', 'drive'],
  ['back', 'Drive back: pull the stick or pedal', null, 'drive'],
  ['right', 'Steer to the right', 'left', 'drive'],
  ['left', 'Steer to the left', null, 'drive'],
  ['panRight', 'Look to the right', 'panLeft', 'look'],
  ['panLeft', 'Look to the left', null, 'look'],
  ['tiltUp', 'Look up', 'tiltDown', 'look'],
  ['tiltDown', 'Look down', null, 'look'],
  ['stop', 'Press the button that is to stop everything', null, 'all'],
];

/** The gamepads of the browser, read when asked. */
export class Pads {
  /** The one that was moved last. @type {number} */
  #index = -1;
  /** @type {Map<string, Binding | null>} */
  #bindings = new Map();
  /** Whether one that drove has gone. */
  lost = false;
  /** While one is being bound, it drives nothing; and after that not before it is let go. */
  binding = false;
  #settling = false;

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
    const binding = bindingFrom(preference.get(`pad.${pad.id}`, '')) ?? (pad.mapping === 'standard' ? STANDARD : null);
    this.#bindings.set(pad.id, binding);
    return binding;
  }

  /** @param {PadState} pad @param {Binding | null} binding null forgets it */
  bind(pad, binding) {
    preference.set(`pad.${pad.id}`, binding ? JSON.stringify(binding) : '');
    this.#bindings.delete(pad.id);
  }

  /** What the pads want now; sets `lost` where the one that was in use is gone. */
  read() {
    const all = this.#all();
    this.lost = this.#index >= 0 && !all.some((pad) => pad.index === this.#index);
    if (this.lost) this.#index = -1;
    const nothing = { ...still(), stop: false, wheel: false };
    if (this.binding) {
      this.#settling = true;
      return nothing;
    }
    let result = nothing;
    for (const pad of all) {
      const binding = this.bindingOf(pad);
      if (!binding) continue;
      const hands = padHands(pad, binding);
      const used = Object.values(hands).some((value) => value !== 0 && value !== false);
      if (used && (this.#index < 0 || result === nothing)) this.#index = pad.index;
      if (used || pad.index === this.#index) result = hands;
    }
    if (this.#settling && result !== nothing && Object.values(result).some(Boolean)) return nothing;
    this.#settling = false;
    return result;
  }

  /** Shake the one in use. */
  rumble() {
    const pad = /** @type {any} */ (this.#index < 0 ? null : this.pad);
    pad?.vibrationActuator?.playEffect?.('dual-rumble', { duration: 250, strongMagnitude: 1, weakMagnitude: 0.6 })?.catch?.(() => {});
  }
}

/** `<edge-pads>`: keys, the gamepad that is there, and how to bind it. */
export class EdgePads extends HTMLElement {
  /** @type {Pads | null} */
  pads = null;
  /** Whether there is something to look about with. */
  looks = false;
  /** The agent's URL, '' where it is reached over a broker only. */
  src = '';
  #box = el('div', { class: 'pad' });
  #bars = el('div', { class: 'bars', 'aria-hidden': 'true' });
  #key = '';
  #frame = 0;
  /** @type {{step: number, binding: Binding, rest: PadState | null, last: PadState | null, since: number, clear: boolean, pad: string} | null} */
  #asking = null;
  #keys = el('dl');
  #secure = el('p', { class: 'secure', hidden: isSecureContext });

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, forms, style];
    root.append(el('h3', {}, 'Gamepad'), this.#box, this.#secure, el('h3', {}, 'Keyboard'), this.#keys);
  }

  connectedCallback() {
    this.#secure.replaceChildren(...insecure(location, this.src).map(({ text, code }) => (code ? el('code', {}, text) : text)));
    const rows = [
      ['Drive', 'W', 'A', 'S', 'D'],
      ['or', '↑', '←', '↓', '→'],
      ...(this.looks ? [['Look about', 'I', 'J', 'K', 'L'], ['Look ahead', 'C']] : []),
      ['Faster', 'Shift'],
      ['Slower', 'Ctrl'],
      ['Stop everything', 'Space', 'Esc'],
    ];
    this.#keys.replaceChildren(...rows.map(([text, ...keys]) => el('div', {}, el('dt', {}, text), el('dd', {}, ...keys.map((key) => el('kbd', {}, key))))));
    const loop = () => {
      this.#frame = requestAnimationFrame(loop);
      this.#tick(performance.now());
    };
    loop();
  }

  disconnectedCallback() {
    cancelAnimationFrame(this.#frame);
    this.#end();
  }

  #end() {
    this.#asking = null;
    if (this.pads) this.pads.binding = false;
  }

  /** @param {number} now */
  #tick(now) {
    const pad = this.pads?.pad ?? null;
    if (this.#asking && pad?.id !== this.#asking.pad) this.#end();
    if (this.#asking && pad) this.#ask(pad, now);
    const binding = pad && this.pads?.bindingOf(pad);
    const key = `${pad?.id} ${Boolean(binding)} ${this.#asking ? this.#asking.step : ''}`;
    if (key !== this.#key) {
      this.#key = key;
      this.#build(pad, binding ?? null);
    }
    if (pad && binding && !this.#asking) this.#show(padHands(pad, binding));
  }

  /** @param {Gamepad | null} pad @param {Binding | null} binding */
  #build(pad, binding) {
    if (!pad) return this.#box.replaceChildren(el('p', { role: 'status' }, isSecureContext ? 'None yet. Connect one, then press any of its buttons.' : 'Gamepads are not available here.'));
    const name = pad.id.replace(/\s*\((STANDARD GAMEPAD|Vendor).*$/i, '');
    if (this.#asking) {
      const [, text] = STEPS[this.#asking.step];
      const steps = this.#steps();
      const skip = button('Skip', () => this.#next(null));
      const cancel = button('Cancel', () => this.#end());
      const at = `${steps.indexOf(STEPS[this.#asking.step]) + 1} of ${steps.length}`;
      return this.#box.replaceChildren(el('p', {}, `${name} · ${at}`), el('p', { class: 'ask', role: 'status' }, text), el('div', { class: 'row' }, skip, cancel));
    }
    const setup = button(binding ? 'Set it up anew' : 'Set it up', () => this.#begin(pad));
    if (!binding) setup.className = 'primary';
    const custom = binding && binding !== STANDARD && pad.mapping === 'standard' ? [button('Use the standard layout', () => this.#forget(pad))] : [];
    const hint = binding ? 'Left stick and triggers drive, the right stick looks about, B stops, Start takes the wheel.' : 'This one is not known yet. Set it up once; this browser remembers it.';
    this.#bars.replaceChildren();
    const shown = binding && binding !== STANDARD ? 'Set up by you.' : hint;
    this.#box.replaceChildren(el('b', {}, name), el('p', {}, shown), ...(binding ? [this.#bars] : []), el('div', { class: 'row' }, setup, ...custom));
  }

  /** @param {import('./control.js').Hands} hands */
  #show(hands) {
    const rows = /** @type {const} */ ([['throttle', 'Drive'], ['steer', 'Steer'], ...(this.looks ? /** @type {const} */ ([['pan', 'Look'], ['tilt', 'Tilt']]) : [])]);
    if (!this.#bars.children.length) for (const [, text] of rows) this.#bars.append(el('span', {}, text), el('i'));
    rows.forEach(([role], i) => /** @type {HTMLElement} */ (this.#bars.children[2 * i + 1]).style.setProperty('--v', hands[role].toFixed(2)));
  }

  #steps() {
    const taken = this.#asking?.binding ?? {};
    const here = this.#asking?.step ?? 0;
    return STEPS.filter((each, i) => (this.looks || each[3] !== 'look') && (i <= here || !taken[each[0]]));
  }

  /** @param {Gamepad} pad */
  #begin(pad) {
    if (this.pads) this.pads.binding = true;
    this.#asking = { step: 0, binding: {}, rest: null, last: null, since: 0, clear: true, pad: pad.id };
  }

  /** @param {Gamepad} pad */
  #forget(pad) {
    this.pads?.bind(pad, null);
    this.#key = '';
  }

  /** @param {Gamepad} pad @param {number} now */
  #ask(pad, now) {
    const asking = this.#asking;
    if (!asking) return;
    const state = snapshot(pad);
    asking.rest ??= state;
    if (!asking.last || changed(asking.last, state)) [asking.last, asking.since] = [state, now];
    const source = moved(asking.rest, state);
    if (source && asking.clear) return this.#next(source);
    // What was moved for the step before has to come to rest first.
    if (!source) asking.clear = true;
    else if (now - asking.since > REST_MS) asking.rest = state;
  }

  /** @param {import('./inputs.js').Source | null} source null to go without */
  #next(source) {
    const asking = this.#asking;
    if (!asking) return;
    const [deed, , other] = STEPS[asking.step];
    if (source) asking.binding[deed] = [source];
    const back = source && other ? opposite(source) : null;
    if (back && other) asking.binding[other] = [back];
    const next = STEPS.findIndex((each, i) => i > asking.step && !asking.binding[each[0]] && (this.looks || each[3] !== 'look'));
    asking.clear = false;
    if (next >= 0) {
      asking.step = next;
      return;
    }
    const pad = this.pads?.pad;
    if (pad && Object.keys(asking.binding).length) this.pads?.bind(pad, asking.binding);
    this.#end();
    this.#key = '';
  }
}

/** @param {Gamepad} pad @returns {PadState} */
const snapshot = ({ id, mapping, axes, buttons }) => ({ id, mapping, axes: [...axes], buttons: buttons.map(({ pressed, value }) => ({ pressed, value })) });

/** Whether anything moved between two looks. @param {PadState} before @param {PadState} after */
const changed = (before, after) =>
  after.axes.some((value, i) => Math.abs(value - (before.axes[i] ?? 0)) > 0.1) || after.buttons.some(({ value }, i) => Math.abs(value - (before.buttons[i]?.value ?? 0)) > 0.1);

/** @param {string} text @param {() => void} act */
function button(text, act) {
  const element = el('button', { class: 'plain', type: 'button' }, text);
  element.addEventListener('click', act);
  return element;
}

customElements.define('edge-pads', EdgePads);
