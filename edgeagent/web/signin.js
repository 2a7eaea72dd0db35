// @ts-check
/** `<edge-signin>`: asks for the agent's token. */
import { el, setText } from './dom.js';
import { base, signin as style } from './styles.js';
import { titleOf } from './words.js';

/** @typedef {import('./agent.js').Agent} Agent */

export class EdgeSignin extends HTMLElement {
  /** @type {Agent | null} */
  #agent = null;
  #heading = el('h2');
  #host = el('p', { class: 'host' });
  #text = el('p');
  #token = el('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, autocapitalize: 'off', spellcheck: 'false' });
  #button = el('button', { class: 'primary', type: 'submit' }, 'Sign in');
  #problem = el('p', { class: 'problem', role: 'alert' });
  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, style];
    const icon = el('img', { src: new URL('favicon.svg', import.meta.url).href, alt: '', width: '48', height: '48' });
    // A user name beside the password is what password managers look for.
    const user = el('input', { type: 'text', name: 'username', autocomplete: 'username', value: 'viewer', hidden: true, tabindex: '-1' });
    const form = el('form', {}, icon, this.#heading, this.#host, this.#text, user, el('label', {}, 'Token', this.#token), this.#button, this.#problem);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#submit();
    });
    root.append(form);
  }

  /** @param {Agent} agent */
  set agent(agent) {
    this.#agent = agent;
    const { device, title, signInText } = agent.store.state;
    setText(this.#heading, device ? `Sign in to ${titleOf(device, title)}` : 'Sign in');
    setText(this.#host, new URL(agent.settings.src).host);
    setText(this.#text, 'The owner of this device has set an access token. Enter it to see the cameras.');
    setText(this.#problem, signInText);
  }

  connectedCallback() {
    // On a phone the keyboard would cover half of what there is to read.
    if (matchMedia('(hover: hover)').matches) this.#token.focus();
  }

  async #submit() {
    if (!this.#agent || !this.#token.value) return;
    this.#button.disabled = true;
    setText(this.#problem, '');
    const problem = await signIn(this.#agent, this.#token.value.trim());
    this.#button.disabled = false;
    setText(this.#problem, problem);
    if (problem) this.#token.select();
  }
}

/**
 * @param {Agent} agent
 * @param {string} token
 * @returns {Promise<string>} what went wrong, '' where nothing did
 */
async function signIn(agent, token) {
  try {
    const response = await fetch(new URL('api/login', agent.settings.src), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ token }),
      signal: AbortSignal.timeout(5000),
    });
    if (response.status === 401 || response.status === 403) return 'That token is not right.';
    if (response.status === 429) return 'Too many tries. Wait a minute, then try again.';
    if (!response.ok) return `The agent answered ${response.status}.`;
  } catch {
    return 'The agent is not reachable.';
  }
  agent.signedIn(token);
  return '';
}

customElements.define('edge-signin', EdgeSignin);
