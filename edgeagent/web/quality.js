// @ts-check
/**
 * `<edge-quality>`: which rendition of a camera is sent. A sheet over the picture; the choice is remembered for each camera, data
 * saver for all of them. Fires `edge-close`.
 *
 * @typedef {import('./camera.js').EdgeCamera} EdgeCamera
 */
import { el, setText, sheet } from './dom.js';
import { iconButton } from './icons.js';
import { choices } from './layers.js';
import { base, panel } from './styles.js';

const style = sheet(`
:host { border-radius: 12px; overflow: hidden; max-height: 100%; }
form { padding: 0 8px 8px; overflow: auto; }
label { display: flex; align-items: center; gap: 12px; min-height: 48px; padding: 4px 12px; border-radius: 8px; cursor: pointer; }
label.saver { margin-top: 8px; border-top: 1px solid var(--_line); border-radius: 0; min-height: 56px; }
@media (hover: hover) { label:hover { background: var(--_raised); } }
label:has(:disabled) { cursor: default; color: var(--_muted); background: none; }
label span { flex: 1; }
small { display: block; color: var(--_muted); font-size: 13px; line-height: 18px; }
input { flex: none; width: 20px; height: 20px; margin: 0; accent-color: var(--_accent); }
input[role] { appearance: none; width: 44px; height: 24px; border-radius: 12px; background: var(--_muted); position: relative; transition: background .15s; }
input[role]::before { content: ""; position: absolute; inset: 3px auto 3px 3px; width: 18px; border-radius: 50%; background: var(--_surface); transition: translate .15s; }
input[role]:checked { background: var(--_accent); }
input[role]:checked::before { translate: 20px; }
@media (prefers-reduced-motion: reduce) { input, input::before { transition: none !important; } }
label:focus-within:has(:focus-visible) { outline: 2px solid var(--_accent); outline-offset: -2px; }
input:focus-visible { outline: none; }
`);

export class EdgeQuality extends HTMLElement {
  #form = el('form');

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, panel, style];
    root.append(el('header', {}, el('h2', {}, 'Picture quality'), iconButton('close', 'Close', () => this.#close())), this.#form);
    root.addEventListener('keydown', (event) => {
      if (/** @type {KeyboardEvent} */ (event).key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      this.#close();
    });
  }

  /** Show what there is to choose from for this camera. @param {EdgeCamera} camera */
  set source({ agent, camera }) {
    this.setAttribute('role', 'dialog');
    this.setAttribute('aria-label', 'Picture quality');
    if (!agent) return;
    const { saver } = agent.store.state;
    const layers = agent.layers(camera);
    const wanted = layers.some((layer) => layer.name === agent.quality(camera)) ? agent.quality(camera) : 'auto';
    const rows = choices(layers).map(({ name, label, size }) => {
      const radio = el('input', { type: 'radio', name: 'layer', value: name, checked: name === wanted, disabled: saver });
      radio.addEventListener('change', () => agent.setQuality(camera, name));
      return el('label', {}, el('span', {}, label, el('small', {}, size)), radio);
    });
    const hint = el('small');
    const box = el('input', { type: 'checkbox', role: 'switch', checked: saver });
    const say = (/** @type {boolean} */ on) => setText(hint, on ? 'On: every camera sends its smallest picture' : 'The smallest picture of every camera');
    say(saver);
    box.addEventListener('change', () => {
      agent.setSaver(box.checked);
      say(box.checked);
      for (const radio of this.#form.querySelectorAll('input[type=radio]')) /** @type {HTMLInputElement} */ (radio).disabled = box.checked;
    });
    this.#form.replaceChildren(...rows, el('label', { class: 'saver' }, el('span', {}, 'Data saver', hint), box));
    /** @type {HTMLElement} */ (this.#form.querySelector('input:checked:enabled') ?? box).focus({ preventScroll: true });
  }

  #close() {
    this.dispatchEvent(new CustomEvent('edge-close'));
  }
}

customElements.define('edge-quality', EdgeQuality);
