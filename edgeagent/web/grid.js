// @ts-check
/**
 * `<edge-grid>`: all cameras of an agent. A grid that covers most of the window, a column on a phone held upright, or one
 * camera alone. Attributes `src`, `device`, `broker`, `token` as `<edge-camera>`; `camera` names the one shown alone; `fit`
 * is `contain` or `cover`; `paused` waits for a click. Fires `edge-select` (detail: the camera's name or '') when the
 * person opens or leaves a camera.
 */
import { agentFor } from './agent.js';
import { askToken, sayFault } from './ask.js';
import { EdgeCamera } from './camera.js';
import { el, preference, setText } from './dom.js';
import { arrange } from './layout.js';
import { settingsOf } from './settings.js';
import { base, grid as style } from './styles.js';
import { words } from './words.js';

/**
 * @typedef {import('./agent.js').Agent} Agent
 * @typedef {import('./types.js').CameraState} CameraState
 */

const WIDE = 900;
const GAP = 4;
const landscapePhone = matchMedia('(orientation: landscape) and (max-height: 500px)');

export class EdgeGrid extends HTMLElement {
  static observedAttributes = ['camera', 'fit', 'paused'];

  /** @type {Agent | null} */
  #agent = null;
  #unsubscribe = () => {};
  /** @type {Map<string, EdgeCamera>} */
  #tiles = new Map();
  #cells = el('div', { class: 'cells' });
  #text = el('p', { role: 'status' });
  #line = el('div', { class: 'line' }, el('span', { class: 'spinner', 'aria-hidden': 'true' }), this.#text);
  #hint = el('p');
  #continue = el('button', { class: 'primary', type: 'button', hidden: true }, 'Continue');
  #note = el('div', { class: 'note' }, el('div', {}, this.#line, this.#hint, this.#continue));
  /** @type {import('./health.js').EdgeHealth | null} */
  #health = null;
  /** @type {HTMLElement | null} */
  #signin = null;
  #resize = new ResizeObserver(() => this.#layout());
  #selected = '';
  #swipe = { x: 0, y: 0, id: -1 };

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, style];
    root.append(this.#cells, this.#note);
    this.#continue.addEventListener('click', () => this.#agent?.consent());
    root.addEventListener('edge-open', (event) => this.#choose(/** @type {EdgeCamera} */ (event.target).camera));
    root.addEventListener('edge-back', () => this.#choose(''));
    root.addEventListener('edge-step', (event) => this.step(/** @type {CustomEvent} */ (event).detail));
    root.addEventListener('edge-first-frame', (event) => this.#learnAspect(/** @type {EdgeCamera} */ (event.target)));
    root.addEventListener('edge-fit', (event) => preference.set('fit.single', /** @type {CustomEvent} */ (event).detail));
    root.addEventListener('pointerdown', (event) => this.#swipeBegan(/** @type {PointerEvent} */ (event)));
    root.addEventListener('pointerup', (event) => this.#swipeEnded(/** @type {PointerEvent} */ (event)));
  }

  /** @param {Agent | null} agent */
  set agent(agent) {
    if (this.#agent === agent) return;
    this.#unsubscribe();
    this.#agent = agent;
    if (this.isConnected) this.#begin();
  }

  get agent() {
    return this.#agent;
  }

  /** The camera shown alone, '' for all. */
  get selected() {
    return this.#selected;
  }

  /** @returns {EdgeCamera[]} */
  get cameras() {
    return [...this.#tiles.values()];
  }

  /** The element of a camera, or of the one shown alone. @param {string} [name] */
  tile(name = this.#selected) {
    return this.#tiles.get(name) ?? null;
  }

  connectedCallback() {
    this.#resize.observe(this);
    landscapePhone.addEventListener('change', this.#layout);
    window.addEventListener('resize', this.#layout);
    this.#begin();
  }

  disconnectedCallback() {
    this.#unsubscribe();
    this.#resize.disconnect();
    landscapePhone.removeEventListener('change', this.#layout);
    window.removeEventListener('resize', this.#layout);
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === 'camera') this.#select(after ?? '');
    else if (name === 'paused') for (const tile of this.cameras) tile.toggleAttribute('paused', after !== null);
    else this.#update();
  }

  /** Show the next (1) or previous (-1) camera alone. @param {number} by */
  step(by) {
    const names = [...this.#tiles.keys()];
    const at = names.indexOf(this.#selected);
    if (names.length > 1 && at >= 0) this.#choose(names[(at + by + names.length) % names.length]);
  }

  #begin() {
    if (!this.#agent) {
      const settings = settingsOf(this);
      if (!settings) return;
      this.#agent = agentFor(settings);
    }
    this.#selected = this.getAttribute('camera') ?? '';
    this.#unsubscribe();
    this.#unsubscribe = this.#agent.store.subscribe(() => this.#update());
    this.#agent.start();
    this.#update();
  }

  #update() {
    const agent = this.#agent;
    if (!agent) return;
    const { known, cameras, signIn, signInFor } = agent.store.state;
    if (known && this.#selected && !cameras.some((camera) => camera.name === this.#selected)) this.#choose('');
    this.#tilesFor(cameras);
    this.#say();
    // One shown alone has its own.
    this.#health = sayFault(this.shadowRoot, this.#health, this.#selected ? null : agent.store.state.fault);
    this.#signin = askToken(this.shadowRoot, this.#signin, signIn && signInFor === 'token' ? agent : null);
    this.#layout();
  }

  /** @param {readonly CameraState[]} cameras */
  #tilesFor(cameras) {
    const names = cameras.map((camera) => camera.name);
    for (const [name, tile] of this.#tiles) {
      if (names.includes(name)) continue;
      tile.remove();
      this.#tiles.delete(name);
    }
    for (const name of names) {
      if (this.#tiles.has(name)) continue;
      const tile = new EdgeCamera();
      tile.setAttribute('camera', name);
      tile.toggleAttribute('paused', this.hasAttribute('paused'));
      tile.hidden = this.#selected !== '' && this.#selected !== name;
      tile.agent = this.#agent;
      this.#tiles.set(name, tile);
    }
    const single = this.#selected !== '';
    for (const [name, tile] of this.#tiles) {
      const selected = name === this.#selected;
      tile.classList.toggle('selected', selected);
      tile.toggleAttribute('compact', !selected);
      tile.toggleAttribute('edges', selected);
      tile.toggleAttribute('steps', selected && names.length > 1);
      tile.hidden = single && !selected;
      // Who drives by it chooses for himself.
      if (!tile.hasAttribute('bare')) tile.setAttribute('fit', selected ? preference.get('fit.single', 'contain') : (this.getAttribute('fit') ?? 'contain'));
    }
    // The map keeps the order of arrival, the agent's is meant.
    this.#tiles = new Map(names.map((name) => [name, /** @type {EdgeCamera} */ (this.#tiles.get(name))]));
    this.cameras.forEach((tile, i) => {
      if (this.#cells.children[i] !== tile) this.#cells.insertBefore(tile, this.#cells.children[i] ?? null);
    });
    this.classList.toggle('single', single);
  }

  #say() {
    const agent = this.#agent?.store.state;
    this.#note.hidden = !agent || agent.signIn || agent.cameras.length > 0;
    if (!agent || this.#note.hidden) return;
    const said = agent.known
      ? { kind: 'off', text: 'This device has no cameras', hint: 'Add one to its configuration; it appears here by itself.' }
      : (agent.consent ??
        words({ phase: agent.reached ? 'connecting' : 'unreachable', text: 'agent', age: null }, { online: navigator.onLine, lna: agent.lna }));
    setText(this.#text, said.text);
    setText(this.#hint, said.hint);
    this.#continue.hidden = !agent.consent;
    /** @type {HTMLElement} */ (this.#line.firstElementChild).hidden = said.kind !== 'wait';
  }

  /** The person chose. @param {string} camera */
  #choose(camera) {
    if (camera === this.#selected) return;
    this.setAttribute('camera', camera);
    this.tile(camera)?.focusPicture();
    this.dispatchEvent(new CustomEvent('edge-select', { detail: camera, bubbles: true, composed: true }));
  }

  /** @param {string} camera */
  #select(camera) {
    if (camera === this.#selected) return;
    const before = this.#selected;
    const tile = this.#tiles.get(camera || before);
    const from = tile?.getBoundingClientRect();
    const focused = this.contains(document.activeElement);
    this.tile(before)?.toggleDetails(false);
    this.#selected = camera;
    this.#update();
    if (tile && from?.width && !(before && camera)) import('./glide.js').then(({ glide }) => glide(tile, from), () => {});
    if (!camera && tile) tile.scrollIntoView({ block: 'nearest' });
    tile?.wakeControls();
    // By the address alone nothing gets the focus, whose frame would lie round the whole picture.
    if (focused) tile?.focusPicture();
  }

  #layout = () => {
    const tiles = this.cameras;
    const column = !this.#selected && this.clientWidth < WIDE && !landscapePhone.matches && tiles.length > 0;
    this.classList.toggle('column', column);
    const cover = this.getAttribute('fit') === 'cover';
    const aspects = tiles.map((tile) => this.#aspect(tile.camera));
    const boxes = this.#selected || column ? null : arrange(aspects, this.clientWidth, this.clientHeight, { gap: GAP, fill: cover });
    tiles.forEach((tile, i) => {
      const box = boxes?.[i];
      tile.style.left = box ? `${box.x}px` : '';
      tile.style.top = box ? `${box.y}px` : '';
      tile.style.width = box ? `${box.width}px` : '';
      tile.style.height = box ? `${box.height}px` : '';
      tile.style.aspectRatio = column ? String(Math.max(0.8, aspects[i])) : '';
    });
  };

  /** Width by height of a camera's picture: as it is, as the agent says, as it was last time. @param {string} name */
  #aspect(name) {
    const video = this.#tiles.get(name)?.video;
    if (video?.videoWidth) return video.videoWidth / video.videoHeight;
    const state = this.#agent?.store.state.cameras.find((camera) => camera.name === name);
    if (state?.width && state.height) return state.width / state.height;
    return Number(preference.get(this.#aspectKey(name), '')) || 16 / 9;
  }

  /** @param {string} name */
  #aspectKey(name) {
    return `aspect.${this.#agent?.store.state.device}.${name}`;
  }

  /** @param {EdgeCamera} tile */
  #learnAspect(tile) {
    const video = tile.video;
    if (!video?.videoWidth) return;
    preference.set(this.#aspectKey(tile.camera), (video.videoWidth / video.videoHeight).toFixed(4));
    this.#layout();
  }

  /** @param {PointerEvent} event */
  #swipeBegan(event) {
    if (this.#selected && event.pointerType === 'touch' && event.isPrimary) this.#swipe = { x: event.clientX, y: event.clientY, id: event.pointerId };
  }

  /** @param {PointerEvent} event */
  #swipeEnded(event) {
    if (event.pointerId !== this.#swipe.id) return;
    const [dx, dy] = [event.clientX - this.#swipe.x, event.clientY - this.#swipe.y];
    this.#swipe.id = -1;
    if (Math.abs(dx) > 60 && Math.abs(dx) > 2 * Math.abs(dy)) this.step(dx < 0 ? 1 : -1);
  }
}

customElements.define('edge-grid', EdgeGrid);
