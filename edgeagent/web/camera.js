// @ts-check
/**
 * `<edge-camera>`: one camera, live. It stands on any page:
 *
 *     <script type="module" src="https://porch.local/camera.js"></script>
 *     <edge-camera src="https://porch.local/" camera="gate"></edge-camera>
 *
 * | Attribute           | Meaning                                                                                  |
 * |---------------------|------------------------------------------------------------------------------------------|
 * | `src`               | the agent's address; or, over a broker:                                                  |
 * | `device`, `broker`  | the device's name and the broker's `wss:` address                                        |
 * | `camera`            | the camera's name; the agent's first one where it is left out                            |
 * | `token`             | the agent's access token, where it asks for one (else the person is asked)               |
 * | `fit`               | `contain` (all of the picture, the default) or `cover` (fill the box, crop the rest)     |
 * | `paused`            | wait for a click on the play button                                                      |
 * | `compact`           | a tile: name only, buttons on hover; a click fires `edge-open`                           |
 * | `bare`              | no controls: something else lies over it                                                 |
 *
 * | Property, method    | Meaning                                                                                  |
 * |---------------------|------------------------------------------------------------------------------------------|
 * | `state`             | `{phase, text}` as shown                                                                 |
 * | `stats`             | a promise of the figures of the details panel                                            |
 * | `delay`             | glass-to-glass `{ms, uncertainty, count}` or null; measured while the details are open   |
 * | `frames`            | frames presented so far                                                                  |
 * | `snapshot(type)`    | a promise of the native frame as a Blob                                                  |
 *
 * Children with `slot="controls"` stand in the bar of controls. Events: `edge-state` (detail: `state`), `edge-first-frame`, `edge-open` and `edge-back`. Styling: `--edge-accent-on-video`,
 * `--edge-radius`, `--edge-surface`, `--edge-text`, `--edge-font`. Pages of another origin need the agent's permission (CORS).
 */
import { agentFor, mark } from './agent.js';
import { askToken, sayFault } from './ask.js';
import { el, setText } from './dom.js';
import { iconButton, relabel } from './icons.js';
import { Picture } from './picture.js';
import { settingsOf } from './settings.js';
import { base, camera as cameraStyle } from './styles.js';
import { titleOf, words } from './words.js';

/**
 * @typedef {import('./agent.js').Agent} Agent
 * @typedef {import('./agent.js').Attachment} Attachment
 * @typedef {import('./agent.js').Watch} Watch
 * @typedef {import('./types.js').CameraView} CameraView
 * @typedef {import('./stats.js').Reading} Reading
 */

const IDLE_MS = 3000;
const AWAY_MS = 2500;

export class EdgeCamera extends HTMLElement {
  static observedAttributes = ['src', 'device', 'broker', 'camera', 'token', 'paused', 'compact', 'fit'];

  /** @type {Agent | null} */
  #agent = null;
  #given = false;
  /** @type {Watch | null} */
  #watch = null;
  #name = '';
  /** @type {CameraView} */
  #view = { phase: 'connecting', text: '', age: null };
  #needsTap = false;
  #queued = false;
  #idleTimer = 0;
  #awayTimer = 0;
  /** Whether its picture is needed: seen, or seen a moment ago, or floating over other windows. */
  #inSight = true;
  #onScreen = true;
  /** Paused by the controls of the browser, as those of picture-in-picture. */
  #held = false;
  /** @type {IntersectionObserver | null} */
  #observer = null;
  #unsubscribe = () => {};
  #onFullscreen = () => this.#render();
  /** @type {{peer: number, reading: Reading} | null} */
  #reading = null;
  /** @type {Picture} */
  #picture;
  #saidState = '';

  // The shadow tree.
  #stage = el('div', { class: 'stage' });
  #text = el('p', { class: 'text', role: 'status' });
  #spinner = el('span', { class: 'spinner', 'aria-hidden': 'true' });
  #hint = el('p', { class: 'hint' });
  #age = el('p', { class: 'age' });
  #button = el('button', { class: 'plain', type: 'button' });
  #message = el('div', { class: 'message' });
  #hit = el('button', { class: 'hit', type: 'button' });
  #dot = el('span', { class: 'dot', 'aria-hidden': 'true' });
  #heading = el('h2');
  #liveText = el('span', { class: 'live-text' });
  #toast = el('div', { class: 'toast', role: 'status' });
  #flash = el('div', { class: 'flash', 'aria-hidden': 'true' });
  #back = iconButton('back', 'Back to all cameras', () => this.#fire('edge-back'));
  #prev = iconButton('back', 'Previous camera', () => this.#fire('edge-step', -1));
  #next = iconButton('forward', 'Next camera', () => this.#fire('edge-step', 1));
  #snapshotButton = iconButton('snapshot', 'Save a snapshot');
  #fitButton = iconButton('fill', 'Fill the window');
  #pipButton = iconButton('pip', 'Picture in picture');
  #qualityButton = iconButton('quality', 'Picture quality');
  #detailsButton = iconButton('details', 'Details');
  #fullButton = iconButton('expand', 'Full screen');
  /** @type {import('./details.js').EdgeDetails | null} */
  #details = null;
  #detailsOpen = false;
  /** @type {HTMLElement | null} */
  #quality = null;
  /** @type {import('./health.js').EdgeHealth | null} */
  #health = null;
  /** @type {HTMLElement | null} */
  #signin = null;

  constructor() {
    super();
    this.#picture = new Picture({
      frame: (attachment, first) => this.#framed(attachment, first),
      blocked: () => {
        this.#needsTap = true;
        this.#render();
      },
      held: (held) => {
        this.#held = held;
        this.#setSight(this.#inSight);
        this.#render();
      },
    });
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, cameraStyle];
    const line = el('div', { class: 'line' }, this.#spinner, this.#text);
    this.#message.append(line, this.#hint, this.#age, this.#button);
    const title = el('div', { class: 'title' }, this.#dot, this.#heading, this.#liveText);
    const top = el('div', { class: 'bar top' }, this.#back, title);
    this.#prev.classList.add('step', 'prev');
    this.#next.classList.add('step', 'next');
    const bottom = el('div', { class: 'bar bottom', role: 'group', 'aria-label': 'Controls' });
    bottom.append(el('slot', { name: 'controls' }), this.#snapshotButton, this.#fitButton, this.#pipButton, this.#qualityButton, this.#detailsButton, this.#fullButton);
    this.#stage.append(this.#picture.element, this.#hit, this.#message, top, this.#prev, this.#next, bottom, this.#toast, this.#flash);
    root.append(this.#stage);

    this.#hit.addEventListener('click', () => this.#tapped());
    this.#hit.addEventListener('dblclick', () => !this.compact && this.toggleFullscreen());
    this.#button.addEventListener('click', () => this.#pressed());
    this.#button.addEventListener('pointerenter', () => this.hasAttribute('paused') && this.#agent?.warm(1));
    this.#snapshotButton.addEventListener('click', (event) => void this.saveSnapshot(event.shiftKey ? 'image/png' : 'image/jpeg'));
    this.#fitButton.addEventListener('click', () => this.toggleFit());
    this.#pipButton.addEventListener('click', () => void this.togglePictureInPicture());
    this.#qualityButton.addEventListener('click', () => void this.toggleQuality());
    this.#detailsButton.addEventListener('click', () => this.toggleDetails());
    this.#fullButton.addEventListener('click', () => this.toggleFullscreen());
    root.addEventListener('pointermove', () => this.wakeControls());
    root.addEventListener('focusin', () => this.wakeControls());
    root.addEventListener('leavepictureinpicture', () => {
      // Some browsers pause it then.
      this.#picture.play();
      this.#sight(this.#onScreen);
    });
  }

  // ------------------------------------------------------------------ what others may ask

  /** The agent, where a grid shares its own. @param {Agent | null} agent */
  set agent(agent) {
    this.#given = agent !== null;
    if (this.#agent === agent) return;
    this.#unwatch();
    this.#agent = agent;
    this.#later();
  }

  get agent() {
    return this.#agent;
  }

  get compact() {
    return this.hasAttribute('compact');
  }

  /** The camera's name, once it is known. */
  get camera() {
    return this.#name;
  }

  /** The camera's title for people. */
  get heading() {
    const state = this.#state();
    return titleOf(this.#name || 'camera', state?.title);
  }

  get state() {
    const { text } = this.#words();
    return { phase: this.hasAttribute('paused') || this.#held ? 'paused' : this.#view.phase, text };
  }

  get frames() {
    return this.#picture.frames;
  }

  /** The `<video>` on show, for those who know what they do. */
  get video() {
    return this.#picture.video;
  }

  /** The frame on the screen. */
  get shown() {
    return this.#picture.on;
  }

  get samples() {
    return this.#picture.samples?.list ?? [];
  }

  /** `off`, `some` or `all` frames are read for their stamp. @param {'off' | 'some' | 'all'} sampling */
  set sampling(sampling) {
    this.#picture.sampling = sampling;
  }

  /** @returns {{ms: number, uncertainty: number, count: number} | null} median of the last three seconds */
  get delay() {
    const now = performance.now();
    const clock = this.#agent?.clock.estimate(now);
    return (clock && this.#picture.samples?.delay(clock, now)) ?? null;
  }

  /** @returns {Promise<import('./stats.js').Figures | null>} rates since the last time it was asked */
  get stats() {
    return this.#readStats();
  }

  async #readStats() {
    const result = await this.#agent?.reading(this.#name);
    if (!result?.reading) return null;
    const { peer, reading } = result;
    const before = this.#reading?.peer === peer ? this.#reading.reading : null;
    this.#reading = { peer, reading };
    const { figures } = await import('./stats.js');
    return figures(before, reading);
  }

  /** @param {'image/jpeg' | 'image/png'} [type] */
  async snapshot(type = 'image/jpeg') {
    return (await import('./snapshot.js')).take(this.#picture.source, type);
  }

  /** Save the frame on show as a file. @param {'image/jpeg' | 'image/png'} [type] */
  async saveSnapshot(type = 'image/jpeg') {
    const blob = await this.snapshot(type);
    if (!blob) return this.toast('There is no picture to save yet');
    this.#flash.classList.remove('on');
    void this.#flash.offsetWidth;
    this.#flash.classList.add('on');
    (await import('./snapshot.js')).save(blob, `${this.#agent?.store.state.device || 'camera'}-${this.#name}`);
    this.toast('Snapshot saved');
  }

  toggleFit() {
    const cover = this.getAttribute('fit') !== 'cover';
    this.setAttribute('fit', cover ? 'cover' : 'contain');
    this.#fire('edge-fit', cover ? 'cover' : 'contain');
  }

  async togglePictureInPicture() {
    const video = /** @type {any} */ (this.#picture.video);
    if (!video) return;
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture();
      else if (video.requestPictureInPicture) await video.requestPictureInPicture();
      else video.webkitSetPresentationMode?.('picture-in-picture');
    } catch {
      this.toast('Picture in picture is not possible right now');
    }
  }

  toggleFullscreen() {
    const root = /** @type {any} */ (this.#given ? document.documentElement : this);
    const video = /** @type {any} */ (this.#picture.video);
    if (document.fullscreenElement) void document.exitFullscreen();
    else if (root.requestFullscreen) root.requestFullscreen().catch(() => {});
    else video?.webkitEnterFullscreen?.();
  }

  /** @param {boolean} [open] */
  toggleDetails(open = !this.#detailsOpen) {
    if (open === this.#detailsOpen) return;
    this.#detailsOpen = open;
    this.#picture.sampling = open ? 'some' : 'off';
    if (this.#agent) this.#agent.measuring += open ? 1 : -1;
    this.#stage.classList.toggle('with-details', open);
    relabel(this.#detailsButton, open ? 'Hide details' : 'Details');
    this.#detailsButton.setAttribute('aria-expanded', String(open));
    this.wakeControls();
    if (open) void this.toggleQuality(false);
    if (open) return void this.#showDetails();
    const had = this.#details?.matches(':focus-within');
    this.#details?.remove();
    this.#details = null;
    if (had) this.#detailsButton.focus();
  }

  async #showDetails() {
    const { EdgeDetails } = await import('./details.js');
    if (!this.#detailsOpen || this.#details) return;
    this.#details = new EdgeDetails();
    this.#details.source = this;
    this.#details.addEventListener('edge-close', () => this.toggleDetails(false));
    this.#stage.append(this.#details);
    this.#details.focusClose();
  }

  /** @param {boolean} [open] */
  async toggleQuality(open = !this.#quality) {
    if (open && !this.#qualityButton.hidden) {
      const { EdgeQuality } = await import('./quality.js');
      if (this.#quality || this.#qualityButton.hidden) return;
      this.toggleDetails(false);
      const sheet = new EdgeQuality();
      this.#quality = sheet;
      sheet.addEventListener('edge-close', () => this.toggleQuality(false));
      this.#stage.append(sheet);
      sheet.source = this;
    } else if (this.#quality) {
      const had = this.#quality.matches(':focus-within');
      this.#quality.remove();
      this.#quality = null;
      if (had) this.#qualityButton.focus();
    }
    this.#qualityButton.setAttribute('aria-expanded', String(Boolean(this.#quality)));
    this.wakeControls();
  }

  get detailsOpen() {
    return this.#detailsOpen;
  }

  focusPicture() {
    this.#hit.focus({ preventScroll: true });
  }

  /** Begin to play, where it was paused. */
  play() {
    this.removeAttribute('paused');
    this.#needsTap = this.#held = false;
    this.#setSight(this.#inSight);
    this.#picture.play();
    this.#render();
  }

  /** @param {string} text */
  toast(text) {
    setText(this.#toast, text);
    this.#toast.classList.add('on');
    setTimeout(() => this.#toast.textContent === text && this.#toast.classList.remove('on'), 2500);
    this.wakeControls();
  }

  /** Show the controls for another three seconds. */
  wakeControls() {
    this.#stage.classList.remove('idle');
    clearTimeout(this.#idleTimer);
    if (this.compact || this.#view.phase !== 'live') return;
    this.#idleTimer = window.setTimeout(() => {
      const focused = this.shadowRoot?.activeElement;
      if (this.#detailsOpen || this.#quality || this.querySelector(':focus-within') || (focused && focused !== this.#hit && focused.matches(':focus-visible'))) return this.wakeControls();
      this.#stage.classList.add('idle');
    }, IDLE_MS);
  }

  // ------------------------------------------------------------------ life

  connectedCallback() {
    // Set here and not in the constructor, which may not touch attributes.
    if (!this.hasAttribute('role')) this.setAttribute('role', 'group');
    this.#observer = new IntersectionObserver(([entry]) => this.#sight(entry.isIntersecting));
    this.#observer.observe(this);
    document.addEventListener('fullscreenchange', this.#onFullscreen);
    this.#inSight = !this.hidden;
    this.#begin();
  }

  disconnectedCallback() {
    this.#observer?.disconnect();
    document.removeEventListener('fullscreenchange', this.#onFullscreen);
    this.#unsubscribe();
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#awayTimer);
    this.toggleDetails(false);
    void this.toggleQuality(false);
    this.#unwatch();
    if (!this.#given) this.#agent = null;
    this.#picture.clear();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (['src', 'device', 'broker', 'token'].includes(name) && !this.#given) {
      this.#unwatch();
      this.#agent = null;
    }
    if (name === 'camera') this.#name = '';
    this.#later();
  }

  #later() {
    if (this.#queued || !this.isConnected) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      if (this.isConnected) this.#begin();
    });
  }

  #begin() {
    if (!this.#agent) {
      const settings = settingsOf(this);
      if (!settings) return this.#render();
      this.#agent = agentFor(settings);
    }
    this.#unsubscribe();
    this.#unsubscribe = this.#agent.store.subscribe(() => this.#changed());
    this.#agent.start();
    this.#changed();
  }

  /** The agent said something, or an attribute changed. */
  #changed() {
    const agent = this.#agent;
    if (!agent || !this.isConnected) return;
    const wanted = this.getAttribute('camera') || agent.store.state.cameras[0]?.name || '';
    if (wanted !== this.#name) {
      this.#unwatch();
      this.#picture.clear();
      this.#name = wanted;
    }
    if (this.hasAttribute('paused')) {
      this.#unwatch();
      if (agent.store.state.known) agent.warm(1);
    } else if (wanted && !this.#watch) {
      this.#watch = agent.watch(wanted, {
        attach: (attachment) => this.#picture.attach(attachment),
        detach: (peer) => this.#picture.detach(peer),
        view: (view) => this.#viewed(view),
      });
      this.#setSight(this.#inSight);
      this.#viewed(agent.view(wanted));
    }
    const { signIn, signInFor } = agent.store.state;
    if (!this.#given) this.#signin = askToken(this.#stage, this.#signin, signIn && signInFor === 'token' ? agent : null);
    this.#render();
  }

  #unwatch() {
    this.#watch?.close();
    this.#watch = null;
    this.#reading = null;
  }

  /** Out of sight for a while: the picture need not be sent. @param {boolean} inSight */
  #sight(inSight) {
    clearTimeout(this.#awayTimer);
    this.#onScreen = inSight;
    if (inSight) this.#setSight(true);
    else this.#awayTimer = window.setTimeout(() => this.#setSight(this.#onScreen || this.#floats()), AWAY_MS);
  }

  /** Whether it is shown picture-in-picture. */
  #floats() {
    return Boolean(/** @type {DocumentOrShadowRoot | null} */ (this.shadowRoot)?.pictureInPictureElement);
  }

  /** @param {boolean} inSight */
  #setSight(inSight) {
    this.#inSight = inSight;
    if (this.#watch) this.#watch.active = inSight && !this.#held;
  }

  /** @param {Attachment} attachment @param {boolean} first */
  #framed(attachment, first) {
    this.#needsTap = false;
    if (first) {
      mark('edge:first-frame', { camera: this.#name, peer: attachment.peer });
      mark(`edge:first-frame:${this.#name}`, { peer: attachment.peer });
      this.#fire('edge-first-frame', { camera: this.#name });
    }
    this.#watch?.frame(attachment, first);
  }

  /** @param {CameraView} view */
  #viewed(view) {
    const was = this.#view.phase;
    this.#view = view;
    // Some browsers blacken a video whose track is silent.
    if (was === 'live' && view.phase !== 'live' && view.phase !== 'resuming') this.#picture.keepLast();
    this.#render();
    if (was !== view.phase) this.wakeControls();
  }

  #state() {
    return this.#agent?.store.state.cameras.find((each) => each.name === this.#name);
  }

  #words() {
    const agent = this.#agent?.store.state;
    const around = { online: navigator.onLine, lna: agent?.lna };
    if (this.hasAttribute('paused') || this.#held) return { kind: /** @type {const} */ ('off'), text: 'Paused', hint: '', age: '' };
    if (!this.#agent) return { kind: /** @type {const} */ ('lost'), text: 'No camera is set', hint: 'Give the element a src.', age: '' };
    if (this.#needsTap) return { kind: /** @type {const} */ ('ask'), text: 'Tap to play', hint: '', age: '' };
    if (agent?.consent) return agent.consent;
    if (agent && !agent.known && !agent.reached) return words({ phase: 'unreachable', text: 'agent', age: null }, around);
    if (agent?.known && !this.#name) return { kind: /** @type {const} */ ('off'), text: 'This device has no cameras', hint: '', age: '' };
    if (agent?.known && !this.#state()) {
      return { kind: /** @type {const} */ ('off'), text: `There is no camera “${this.#name}”`, hint: '', age: '' };
    }
    return words(this.#view, around);
  }

  #render() {
    const said = this.#words();
    const live = said.kind === 'live';
    const title = this.heading;
    setText(this.#heading, title);
    this.setAttribute('aria-label', `Camera ${title}`);
    this.#dot.className = `dot ${live ? 'live' : said.kind === 'lost' ? 'lost' : ''}`;
    const short = live ? 'Live' : '';
    setText(this.#liveText, short);
    this.#liveText.className = this.compact ? 'sr' : 'live-text';
    setText(this.#text, said.text);
    setText(this.#hint, said.hint);
    setText(this.#age, said.age && said.age.charAt(0).toUpperCase() + said.age.slice(1));
    this.#hint.hidden = !said.hint;
    this.#age.hidden = !said.age;
    this.#spinner.hidden = said.kind !== 'wait';
    const consent = said.text !== '' && said === this.#agent?.store.state.consent;
    const stopped = this.hasAttribute('paused') || this.#needsTap || this.#held;
    const button = stopped ? 'Play' : consent ? 'Continue' : this.#view.phase === 'refused' ? 'Try again' : '';
    setText(this.#button, button);
    this.#button.hidden = !button;
    this.#message.classList.toggle('on', !live && said.kind !== 'ask' ? true : this.#needsTap || consent);
    this.#message.classList.toggle('now', said.kind !== 'wait' || said.age !== '');
    this.#picture.element.classList.toggle('dim', !live && this.#view.age !== null);
    relabel(this.#hit, this.compact ? `Open ${title}` : 'Show or hide the controls');
    this.#back.hidden = this.compact || !this.#given;
    this.#prev.hidden = this.#next.hidden = this.compact || !this.hasAttribute('steps');
    this.#snapshotButton.disabled = this.#fitButton.disabled = this.#pipButton.disabled = this.#view.age === null;
    const video = /** @type {any} */ (HTMLVideoElement.prototype);
    this.#pipButton.hidden = !(document.pictureInPictureEnabled || video.webkitSetPresentationMode);
    this.#fullButton.hidden = this.compact || !(document.fullscreenEnabled || video.webkitEnterFullscreen);
    this.#fitButton.hidden = this.compact;
    this.#detailsButton.hidden = this.compact;
    this.#qualityButton.hidden = this.compact || (this.#agent?.layers(this.#name).length ?? 0) < 2;
    if (this.compact && this.#quality) void this.toggleQuality(false);
    if (!this.compact || this.#health) this.#health = sayFault(this.#stage, this.#health, this.compact ? null : (this.#agent?.store.state.faults[this.#name] ?? null));
    const cover = this.getAttribute('fit') === 'cover';
    relabel(this.#fitButton, cover ? 'Show the whole picture' : 'Fill the window', cover ? 'fit' : 'fill');
    const full = document.fullscreenElement !== null;
    relabel(this.#fullButton, full ? 'Leave full screen' : 'Full screen', full ? 'shrink' : 'expand');
    const key = `${this.state.phase} ${said.text}`;
    if (key !== this.#saidState) {
      this.#saidState = key;
      this.#fire('edge-state', { ...this.state, kind: said.kind });
    }
  }

  #tapped() {
    if (this.#quality) return void this.toggleQuality(false);
    if (this.compact) return this.#fire('edge-open', { camera: this.#name });
    const hide = !this.#stage.classList.contains('idle') && matchMedia('(hover: none)').matches && this.#view.phase === 'live';
    if (hide) this.#stage.classList.add('idle');
    else this.wakeControls();
  }

  #pressed() {
    if (this.hasAttribute('paused') || this.#needsTap || this.#held) this.play();
    else if (this.#agent?.store.state.consent) this.#agent.consent();
    else this.#agent?.retry();
  }

  /** @param {string} type @param {unknown} [detail] */
  #fire(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

customElements.define('edge-camera', EdgeCamera);
