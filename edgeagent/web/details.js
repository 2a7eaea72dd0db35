// @ts-check
/**
 * `<edge-details>`: the numbers behind the picture, read once a second while it is open.
 *
 * @typedef {import('./camera.js').EdgeCamera} EdgeCamera
 */
import { el, setText } from './dom.js';
import { iconButton } from './icons.js';
import { choices } from './layers.js';
import { base, details as style, panel } from './styles.js';
import { bitrateText, delayText, pathText } from './units.js';

const EVERY_MS = 1000;
const POINTS = 60;

const ROWS = /** @type {const} */ ([
  ['Picture', [['resolution', 'Resolution'], ['fps', 'Frame rate'], ['codec', 'Codec'], ['dropped', 'Dropped frames']]],
  ['Delay', [['glass', 'Glass to glass'], ['buffer', 'Jitter buffer'], ['rtt', 'Round trip']]],
  ['Network', [['bitrate', 'Bitrate'], ['loss', 'Packet loss'], ['path', 'Path'], ['door', 'Connected through']]],
  ['Quality', [['layer', 'Sent at present'], ['estimate', 'Network carries about'], ['limit', 'Limited by']]],
  ['Agent', [['device', 'Device'], ['version', 'Version'], ['viewers', 'Watching now'], ['board', 'Board']]],
]);

const LIMITS = { none: 'Nothing', network: 'The network', uplink: 'The owner’s upload limit', camera: 'The camera', board: 'The board', wish: 'Your choice' };

export class EdgeDetails extends HTMLElement {
  /** @type {EdgeCamera | null} */
  source = null;
  /** @type {Map<string, HTMLElement>} */
  #values = new Map();
  #close = iconButton('close', 'Close details', () => this.dispatchEvent(new CustomEvent('edge-close')));
  #copy = iconButton('copy', 'Copy the details', () => void this.#copyText());
  #timer = 0;
  /** @type {number[]} bitrates, latest last */
  #rates = [];
  #path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  #peak = el('span');
  #heading = el('h2', {}, 'Details');

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, panel, style];
    const scroll = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Details of the picture' });
    for (const [title, rows] of ROWS) {
      const list = el('dl');
      for (const [key, label] of rows) {
        const value = el('dd', {}, '–');
        this.#values.set(key, value);
        list.append(el('div', { 'data-key': key }, el('dt', {}, label), value));
      }
      scroll.append(el('h3', {}, title), list);
      if (title === 'Network') scroll.append(this.#graph());
    }
    root.append(el('header', {}, this.#heading, this.#copy, this.#close), scroll);
  }

  connectedCallback() {
    this.setAttribute('role', 'complementary');
    this.setAttribute('aria-label', `Details of ${this.source?.heading ?? 'the camera'}`);
    void this.#update();
    this.#timer = window.setInterval(() => void this.#update(), EVERY_MS);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  focusClose() {
    this.#close.focus({ preventScroll: true });
  }

  /** What the panel shows, for those who ask from outside. */
  get values() {
    return Object.fromEntries([...this.#values].map(([key, element]) => [key, element.textContent ?? '']));
  }

  #graph() {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('class', 'graph');
    svg.setAttribute('viewBox', `0 0 ${POINTS - 1} 100`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    svg.append(this.#path);
    const wrap = el('div');
    wrap.append(svg, el('div', { class: 'scale' }, el('span', {}, 'Bitrate, last minute'), this.#peak));
    return wrap;
  }

  async #update() {
    const source = this.source;
    if (!source) return;
    const figures = await source.stats;
    const agent = source.agent?.store.state;
    const state = agent?.cameras.find((each) => each.name === source.camera);
    /** @param {string} key @param {string} text */
    const show = (key, text) => {
      const element = this.#values.get(key);
      if (element) setText(element, text || '–');
    };
    show('device', agent?.device ?? '');
    show('version', agent?.version ?? '');
    show('viewers', state ? String(state.viewers) : '');
    show('door', agent?.door === 'mqtt' ? 'Broker (MQTT)' : agent?.door === 'whep' ? 'The agent (WHEP)' : '');
    const flow = source.agent?.flow(source.camera);
    const layer = flow && choices(state?.layers ?? []).find(({ name }) => name === flow.layer);
    show('layer', flow?.layer ? [layer?.label, layer?.size, bitrateText(flow.kbps * 1000)].filter(Boolean).join(', ') : '');
    show('estimate', flow?.estimate_kbps ? bitrateText(flow.estimate_kbps * 1000) : '');
    show('limit', flow ? flow.text || LIMITS[flow.limit] : '');
    show('board', agent?.board || (agent?.known ? 'All well' : ''));
    const glass = delayText(source.delay);
    show('glass', glass || (state?.stamped ? 'Measuring…' : 'No stamp in the picture'));
    if (!figures) return;
    const size = source.video;
    show('resolution', size?.videoWidth ? `${size.videoWidth} × ${size.videoHeight}` : '');
    show('fps', figures.fps ? `${figures.fps.toFixed(1)} fps` : '');
    show('codec', figures.codec);
    show('dropped', String(figures.dropped));
    show('buffer', figures.bufferMs === null ? '' : `${Math.round(figures.bufferMs)} ms`);
    const rtt = source.agent?.clock.lastRtt ?? figures.rttMs;
    show('rtt', rtt === null ? '' : `${rtt < 10 ? rtt.toFixed(1) : Math.round(rtt)} ms`);
    show('bitrate', figures.bitsPerSecond ? bitrateText(figures.bitsPerSecond) : '');
    show('loss', `${figures.lossPercent.toFixed(figures.lossPercent > 0 && figures.lossPercent < 10 ? 2 : 0)} %`);
    const protocol = figures.protocol ? `, ${figures.protocol.toUpperCase()}` : '';
    show('path', figures.path ? `${pathText(figures.path)} (${figures.path}${protocol})` : '');
    this.#plot(figures.bitsPerSecond);
  }

  /** @param {number} rate */
  #plot(rate) {
    if (!rate && !this.#rates.length) return;
    this.#rates = [...this.#rates, rate].slice(-POINTS);
    const top = Math.max(...this.#rates) * 1.1 || 1;
    const left = POINTS - this.#rates.length;
    this.#path.setAttribute('d', this.#rates.map((each, i) => `${i ? 'L' : 'M'}${left + i} ${(100 - (each / top) * 96).toFixed(1)}`).join(''));
    setText(this.#peak, `peak ${bitrateText(Math.max(...this.#rates))}`);
  }

  async #copyText() {
    const lines = ROWS.flatMap(([title, rows]) => [title, ...rows.map(([key, label]) => `  ${label}: ${this.#values.get(key)?.textContent ?? ''}`)]);
    const text = [`${this.source?.heading ?? ''}, ${new Date().toISOString()}`, ...lines, `  Browser: ${navigator.userAgent}`].join('\n');
    try {
      await navigator.clipboard.writeText(text);
      this.source?.toast('Details copied');
    } catch {
      this.source?.toast('The browser does not allow copying here');
    }
  }
}

customElements.define('edge-details', EdgeDetails);
