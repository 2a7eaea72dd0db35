// @ts-check
/** `<edge-connect>`: on a static host, asks where the agent is. Fires `edge-connect` with the settings. */
import { el, setText } from './dom.js';
import { remember } from './memory.js';
import { brokerUrl, httpUrl, NAME, noSettings } from './settings.js';
import { base, signin as style } from './styles.js';

/** @typedef {import('./settings.js').Settings} Settings */

export class EdgeConnect extends HTMLElement {
  #device = field('device', 'text', 'off');
  #broker = field('broker', 'text', 'url');
  #username = field('username', 'text', 'username');
  #password = field('password', 'password', 'current-password');
  #remember = el('input', { type: 'checkbox', name: 'remember', checked: true });
  #problem = el('p', { class: 'problem', role: 'alert' });

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, style];
    this.#device.placeholder = 'porch';
    this.#broker.placeholder = 'wss://broker.example/mqtt';
    this.#device.required = this.#broker.required = true;
    const form = el(
      'form',
      { novalidate: true },
      el('h2', {}, 'Which device?'),
      el('p', {}, 'Name the device and the broker that it is connected to.'),
      el('label', {}, 'Device', this.#device),
      el('label', {}, 'Broker', this.#broker),
      el('label', {}, el('span', {}, 'User name ', el('small', {}, 'optional')), this.#username),
      el('label', {}, el('span', {}, 'Password ', el('small', {}, 'optional')), this.#password),
      el('label', { class: 'check' }, this.#remember, 'Remember on this device'),
      el('button', { class: 'primary', type: 'submit' }, 'Connect'),
      this.#problem,
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    root.append(form);
  }

  /** @param {Settings} settings @param {string} [problem] */
  fill(settings, problem = '') {
    this.#device.value = settings.device;
    this.#broker.value = settings.broker;
    this.#username.value = settings.username;
    setText(this.#problem, problem);
  }

  #submit() {
    const device = this.#device.value.trim().toLowerCase();
    // An address instead of a broker: the agent itself.
    const text = this.#broker.value.trim();
    const src = /^https?:/i.test(text) ? httpUrl(text) : '';
    const broker = src ? '' : brokerUrl(text);
    if (!src && !NAME.test(device)) return this.#wrong(this.#device, 'A device has a name of lower-case letters, digits and hyphens.');
    if (!src && !broker) return this.#wrong(this.#broker, 'A broker has an address such as wss://broker.example/mqtt.');
    if (broker.startsWith('ws:') && location.protocol === 'https:') {
      return this.#wrong(this.#broker, 'This page came over https, so the browser allows only wss: brokers.');
    }
    const settings = { ...noSettings(), device, src, broker, username: this.#username.value.trim(), password: this.#password.value };
    this.dispatchEvent(new CustomEvent('edge-connect', { detail: { settings, remember: this.#remember.checked }, bubbles: true }));
  }

  /** @param {HTMLInputElement} input @param {string} text */
  #wrong(input, text) {
    setText(this.#problem, text);
    input.focus();
  }
}

/** @param {string} name @param {string} type @param {string} autocomplete */
function field(name, type, autocomplete) {
  return el('input', { name, type, autocomplete, autocapitalize: 'off', spellcheck: 'false' });
}

customElements.define('edge-connect', EdgeConnect);

/**
 * The form, filled in; what it gives is remembered where the person wants that.
 * @param {Settings} settings @param {string | undefined} problem @param {(settings: Settings) => void} chosen
 */
export function connect(settings, problem, chosen) {
  const form = new EdgeConnect();
  form.fill(settings, problem);
  form.addEventListener('edge-connect', (event) => {
    const { detail } = /** @type {CustomEvent<{settings: Settings, remember: boolean}>} */ (event);
    remember(localStorage, detail.remember ? detail.settings : null);
    chosen(detail.settings);
  });
  return form;
}
