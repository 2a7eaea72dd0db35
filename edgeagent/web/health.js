// @ts-check
/**
 * `<edge-health>`: the connection bar. It shows the way of the picture, part by part, and says in one sentence which part is at
 * fault; nothing while all is well. It lies over the picture, so that nothing moves when it comes. After a while it makes itself
 * small where there still is a picture; a click opens or closes it.
 *
 * @typedef {import('./fault.js').Fault} Fault
 * @typedef {import('./fault.js').Part} Part
 */
import { el, setText, sheet } from './dom.js';
import { chain } from './fault.js';
import { outline } from './icons.js';
import { base } from './styles.js';

const OPEN_MS = 10_000;

/** @type {Record<Part, [string, string]>} */
const PARTS = {
  camera: ['Camera', 'M4 8.5A1.5 1.5 0 0 1 5.5 7h8A1.5 1.5 0 0 1 15 8.5v7a1.5 1.5 0 0 1-1.5 1.5h-8A1.5 1.5 0 0 1 4 15.5zM15 10.5l5-2.5v8l-5-2.5'],
  board: ['Board', 'M7 7h10v10H7zM10 7V4M14 7V4M10 20v-3M14 20v-3M7 10H4M7 14H4M20 10h-3M20 14h-3'],
  broker: ['Broker', 'M4 6h16v5H4zM4 13h16v5H4zM7.5 8.5h.01M7.5 15.5h.01'],
  network: ['Network', 'M4 10a11.5 11.5 0 0 1 16 0M7 13.2a7.2 7.2 0 0 1 10 0M10 16.4a2.9 2.9 0 0 1 4 0M12 19h.01'],
  you: ['You', 'M8.5 3.5h7A1.5 1.5 0 0 1 17 5v14a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 7 19V5a1.5 1.5 0 0 1 1.5-1.5zM11 17.5h2'],
};

const style = sheet(`
:host { display: block; color: #fff; pointer-events: none; --_accent: var(--edge-accent-on-video, #58b4ff); }
button {
  display: block; width: 100%; padding: 10px 12px 12px; border: 0; border-radius: 12px; text-align: left; pointer-events: auto;
  background: #101317; color: #fff; box-shadow: 0 0 0 1px rgb(255 255 255 / .14);
}
.small { display: none; align-items: center; gap: 8px; font-weight: 600; white-space: nowrap; }
.chain { display: flex; }
.part { flex: 1; min-width: 0; display: grid; justify-items: center; gap: 4px; position: relative; font-size: 12px; line-height: 16px; color: #d5dae0; }
.part + .part::before {
  content: ""; position: absolute; top: 15px; right: calc(50% + 20px); width: calc(100% - 40px); height: 2px; border-radius: 1px; background: var(--_accent);
}
.sign { display: grid; place-items: center; width: 32px; height: 32px; border-radius: 50%; color: var(--_accent); }
.sign svg { width: 22px; height: 22px; }
.unknown .sign { color: #8b95a1; }
.unknown .label { color: #a7b0bc; }
.unknown + .part::before { background: none; border-top: 2px dotted #8b95a1; }
.bad { color: #fff; font-weight: 600; }
.bad .sign, .small .sign { background: #fff; color: #14181d; }
:host(.hard) .bad .sign, :host(.hard) .small .sign { background: #ff8177; color: #2b0804; }
.text { display: block; margin: 8px 4px 0; font-size: 14px; line-height: 20px; text-align: center; text-wrap: balance; }
:host(.closed) button { width: auto; min-width: 44px; padding: 6px 16px 6px 6px; border-radius: 22px; }
:host(.closed) .small { display: flex; }
:host(.closed) .chain, :host(.closed) .text { display: none; }
@media (hover: hover) { button:hover { background: #20252c; } }
`);

export class EdgeHealth extends HTMLElement {
  #said = el('div', { class: 'sr', role: 'status' });
  #chain = el('span', { class: 'chain' });
  #text = el('span', { class: 'text' });
  #small = el('span', { class: 'small' });
  #button = el('button', { type: 'button' }, this.#small, this.#chain, this.#text);
  #key = '';
  #timer = 0;

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, style];
    this.#button.hidden = true;
    root.append(this.#said, this.#button);
    this.#button.addEventListener('click', () => {
      clearTimeout(this.#timer);
      this.#open(this.classList.contains('closed'));
    });
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
  }

  /** @param {Fault | null} fault */
  set fault(fault) {
    setText(this.#said, fault && !fault.mild ? `${PARTS[fault.at][0]}: ${fault.text}` : '');
    this.#button.hidden = !fault;
    const key = fault ? `${fault.at} ${fault.hard} ${fault.mild}` : '';
    if (fault) setText(this.#text, fault.text);
    if (fault) this.#button.setAttribute('aria-label', `Connection, at fault: ${PARTS[fault.at][0]}. ${fault.text}`);
    if (key === this.#key) return;
    this.#key = key;
    clearTimeout(this.#timer);
    if (!fault) return;
    this.classList.toggle('hard', fault.hard);
    this.#small.replaceChildren(sign(fault.at), PARTS[fault.at][0]);
    this.#chain.replaceChildren(...chain(fault).map(({ part, state }) => el('span', { class: `part ${state}` }, sign(part), el('span', { class: 'label' }, PARTS[part][0]))));
    // Of a camera that is off among others the picture itself says so, and why.
    this.#open(!fault.mild && !(fault.partly && fault.hard && fault.at === 'camera'));
    if (fault.partly || (!fault.hard && !fault.mild)) this.#timer = window.setTimeout(() => this.#open(false), OPEN_MS);
  }

  /** @param {boolean} open */
  #open(open) {
    this.classList.toggle('closed', !open);
    this.#button.setAttribute('aria-expanded', String(open));
  }
}

/** @param {Part} part */
const sign = (part) => el('span', { class: 'sign' }, outline(PARTS[part][1]));

customElements.define('edge-health', EdgeHealth);
