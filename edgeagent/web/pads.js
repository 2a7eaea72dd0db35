// @ts-check
/**
 * The sheet that says how one drives, and binds a gamepad whose layout is not known.
 *
 * @typedef {import('./inputs.js').Binding} Binding
 */
import { Binder } from './binding.js';
import { el } from './dom.js';
import { insecure } from './drive-words.js';
import { padHands, STANDARD } from './inputs.js';
import { base } from './styles.js';
import { forms, pads as style } from './robot-style.js';

/** `<edge-pads>`: thumbs, keys, the gamepad that is there, and how to bind it. */
export class EdgePads extends HTMLElement {
  /** @type {import('./gamepads.js').Pads | null} */
  pads = null;
  /** Whether there is something to drive with. */
  drives = false;
  /** Whether there is something to look about with. */
  looks = false;
  /** Whether there are sliders for what else moves. */
  slides = false;
  /** The agent's URL, '' where it is reached over a broker only. */
  src = '';
  #box = el('div', { class: 'pad' });
  #bars = el('div', { class: 'bars', 'aria-hidden': 'true' });
  #key = '';
  #frame = 0;
  /** @type {{binder: Binder, pad: string} | null} */
  #asking = null;
  #keys = el('dl');
  #thumbs = el('dl');
  #stick = el('p', {}, 'A stick comes to where you put your thumb down. The further you push it, the faster.');
  #secure = el('p', { class: 'secure', hidden: isSecureContext });

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, forms, style];
    const touch = el('section', { class: 'touch' }, el('h3', {}, 'Touch'), this.#thumbs, this.#stick);
    root.append(touch, el('h3', {}, 'Gamepad'), this.#box, this.#secure, el('h3', {}, 'Keyboard'), this.#keys);
  }

  connectedCallback() {
    this.#secure.replaceChildren(...insecure(location, this.src).map(({ text, code }) => (code ? el('code', {}, text) : text)));
    const thumbs = [
      ...(this.drives ? [['Drive and steer', 'Left thumb']] : []),
      ...(this.looks ? [['Look about', 'Right thumb']] : []),
      ...(this.slides ? [['What else moves', 'Sliders']] : []),
      ['Stand still', 'Let go'],
      ['Stop everything', 'STOP'],
    ];
    const keys = [
      ...(this.drives ? [['Drive', 'W', 'A', 'S', 'D'], ['or', '↑', '←', '↓', '→']] : []),
      ...(this.looks ? [['Look about', 'I', 'J', 'K', 'L'], ['Look ahead', 'C']] : []),
      ['Faster', 'Shift'],
      // With a letter, browsers take Ctrl for themselves: Ctrl+W closes the page.
      ...(this.drives ? [['Slower, with the arrow keys', 'Ctrl']] : []),
      ['Stop everything', 'Space', 'Esc'],
    ];
    this.#stick.hidden = !this.drives && !this.looks;
    this.#thumbs.replaceChildren(...rows(thumbs));
    this.#keys.replaceChildren(...rows(keys));
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
    if (this.#asking && pad && this.#asking.binder.look(pad, now)) this.#asked();
    const binding = pad && this.pads?.bindingOf(pad);
    const key = `${pad?.id} ${Boolean(binding)} ${this.#asking ? this.#asking.binder.question.text : ''}`;
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
      const { binder } = this.#asking;
      const { text, at, of } = binder.question;
      const skip = button('Skip', () => {
        binder.skip();
        this.#asked();
      });
      const cancel = button('Cancel', () => this.#end());
      return this.#box.replaceChildren(el('p', {}, `${name} · ${at} of ${of}`), el('p', { class: 'ask', role: 'status' }, text), el('div', { class: 'row' }, skip, cancel));
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
    const bars = /** @type {const} */ ([['throttle', 'Drive'], ['steer', 'Steer'], ...(this.looks ? /** @type {const} */ ([['pan', 'Look'], ['tilt', 'Tilt']]) : [])]);
    if (!this.#bars.children.length) for (const [, text] of bars) this.#bars.append(el('span', {}, text), el('i'));
    bars.forEach(([role], i) => /** @type {HTMLElement} */ (this.#bars.children[2 * i + 1]).style.setProperty('--v', hands[role].toFixed(2)));
  }

  /** @param {Gamepad} pad */
  #begin(pad) {
    if (this.pads) this.pads.binding = true;
    this.#asking = { binder: new Binder(this.looks), pad: pad.id };
  }

  /** @param {Gamepad} pad */
  #forget(pad) {
    this.pads?.bind(pad, null);
    this.#key = '';
  }

  /** One question is answered. */
  #asked() {
    const [asking, pad] = [this.#asking, this.pads?.pad];
    if (!asking?.binder.done) return;
    if (pad && Object.keys(asking.binder.binding).length) this.pads?.bind(pad, asking.binder.binding);
    this.#end();
    this.#key = '';
  }
}

/** @param {string[][]} what each a deed and what does it */
const rows = (what) => what.map(([text, ...by]) => el('div', {}, el('dt', {}, text), el('dd', {}, ...by.map((each) => el('kbd', {}, each)))));

/** @param {string} text @param {() => void} act */
function button(text, act) {
  const element = el('button', { class: 'plain', type: 'button' }, text);
  element.addEventListener('click', act);
  return element;
}

customElements.define('edge-pads', EdgePads);
