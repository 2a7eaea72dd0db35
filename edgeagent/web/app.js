// @ts-check
/** The page: header, grid, keyboard, history, and where the agent is. */
import { agentFor } from './agent.js';
import { el, preference, setText } from './dom.js';
import { EdgeGrid } from './grid.js';
import { iconButton, relabel } from './icons.js';
import { fromFragment, noSettings, toFragment } from './settings.js';
import { summary, titleOf } from './words.js';

/**
 * @typedef {import('./agent.js').Agent} Agent
 * @typedef {import('./camera.js').EdgeCamera} EdgeCamera
 * @typedef {import('./settings.js').Settings} Settings
 */

const IDLE_MS = 3000;
const start = fromFragment(location.hash);
const main = /** @type {HTMLElement} */ (document.querySelector('main'));
const header = /** @type {HTMLElement} */ (document.querySelector('header'));
const heading = /** @type {HTMLElement} */ (header.querySelector('h1'));
const status = /** @type {HTMLElement} */ (header.querySelector('.status'));
const buttons = /** @type {HTMLElement} */ (header.querySelector('.buttons'));
const grid = new EdgeGrid();
/** @type {Agent | null} */
let agent = null;
/** @type {import('./connect.js').EdgeConnect | null} */
let form = null;
/** @type {Agent | null} whose devices the page can show */
let furnished = null;
let version = '';
let recalled = false;
/** What the header says for a moment. */
let notice = '';
let noticeTimer = 0;
let idleTimer = 0;

const fitButton = iconButton('fill', 'Fill the window', () => toggleFit());
const fullButton = iconButton('expand', 'Full screen', () => toggleFullscreen());
const saverButton = iconButton('saver', 'Data saver', () => toggleSaver());
const helpButton = iconButton('keyboard', 'Keyboard shortcuts', () => void help());
const changeButton = el('button', { class: 'plain', type: 'button', hidden: true }, 'Change device');
helpButton.classList.add('mouse');
fitButton.classList.add('wide');
changeButton.addEventListener('click', () => void ask(agent?.settings ?? noSettings()));
buttons.append(changeButton, saverButton, fitButton, helpButton, fullButton);

grid.setAttribute('fit', preference.get('fit.grid', 'contain'));
grid.toggleAttribute('paused', start.paused);
if (start.camera) grid.setAttribute('camera', start.camera);
grid.addEventListener('edge-select', (event) => selected(/** @type {CustomEvent} */ (event).detail));
grid.addEventListener('edge-state', () => render());

// Secrets do not stay in the address bar or in the history.
const clean = toFragment(location.hash, start.camera);
if (/(^|[#&])(password|token)=/.test(location.hash)) history.replaceState(history.state, '', clean || location.pathname + location.search);

use(start.settings ?? { ...noSettings(), src: new URL('./', document.baseURI).href, door: start.door });

/** @param {Settings} settings */
function use(settings) {
  form?.remove();
  form = null;
  agent = agentFor(settings);
  agent.store.subscribe(changed);
  grid.agent = agent;
  main.replaceChildren(grid);
  changed();
}

function changed() {
  const state = agent?.store.state;
  if (!agent || !state) return;
  if (state.foreign && !state.known && !start.settings) {
    changeButton.hidden = false;
    return void recall();
  }
  if (state.signIn && state.signInFor === 'broker') return void ask(agent.settings, state.signInText);
  if (start.probe) for (const tile of grid.cameras) tile.sampling = 'all';
  if (state.version && version && state.version !== version) void import('./help.js').then(({ offerReload }) => offerReload(state.version));
  version ||= state.version;
  if (state.devices && furnished !== agent) void robot(agent);
  render();
}

/** It has devices: buttons for them, and a page to drive. @param {Agent} whose */
async function robot(whose) {
  furnished = whose;
  const module = await import('./robot.js').catch(() => null);
  if (module) module.furnish(whose, grid, main, buttons);
  else furnished = null;
}

/** On a static host: the device that was shown here before, else ask for one. */
async function recall() {
  if (recalled) return;
  recalled = true;
  const { remembered } = await import('./memory.js');
  const saved = remembered(localStorage);
  if (saved) use(saved);
  else await ask(noSettings());
}

/** @param {Settings} settings @param {string} [problem] */
async function ask(settings, problem) {
  const { connect } = await import('./connect.js');
  if (form) return;
  form = connect(settings, problem, (chosen) => {
    changeButton.hidden = false;
    use(chosen);
  });
  main.replaceChildren(form);
  setText(heading, 'edgeagent');
  setText(status, '');
}

function render() {
  const state = agent?.store.state;
  if (!state || form) return;
  const title = state.known ? titleOf(state.device, state.title) : '';
  const tile = grid.tile();
  setText(heading, title);
  document.title = [tile?.heading, title || 'edgeagent'].filter(Boolean).join(' · ');
  const all = grid.cameras.map((each) => ({ kind: each.state.phase === 'live' || each.state.phase === 'resuming' ? /** @type {const} */ ('live') : /** @type {const} */ ('wait'), text: each.state.text }));
  const { saver } = state;
  saverButton.hidden = !saver && !state.cameras.some((camera) => camera.layers?.length > 1);
  saverButton.setAttribute('aria-pressed', String(saver));
  relabel(saverButton, 'Data saver: the smallest picture of every camera');
  setText(status, state.signIn ? '' : notice || summary(all));
  document.body.classList.toggle('single', grid.selected !== '');
  document.body.classList.toggle('empty', !grid.cameras.length);
  const cover = grid.getAttribute('fit') === 'cover';
  relabel(fitButton, cover ? 'Show whole pictures' : 'Fill the window', cover ? 'fit' : 'fill');
  fullButton.hidden = !document.fullscreenEnabled;
  const full = document.fullscreenElement !== null;
  relabel(fullButton, full ? 'Leave full screen' : 'Full screen', full ? 'shrink' : 'expand');
}

// ------------------------------------------------------------------ one camera alone, and the way back

/** @param {string} camera */
function selected(camera) {
  const url = toFragment(location.hash, camera) || location.pathname + location.search;
  if (camera && history.state?.edge) history.replaceState({ edge: true }, '', url);
  else if (camera) history.pushState({ edge: true }, '', url);
  else if (history.state?.edge) history.back();
  else history.replaceState(null, '', url);
  render();
}

window.addEventListener('popstate', () => {
  grid.setAttribute('camera', fromFragment(location.hash).camera);
  render();
});

function toggleFit() {
  const cover = grid.getAttribute('fit') !== 'cover';
  grid.setAttribute('fit', cover ? 'cover' : 'contain');
  preference.set('fit.grid', cover ? 'cover' : 'contain');
  render();
}

function toggleSaver() {
  const on = !agent?.store.state.saver;
  notice = on ? 'Data saver: small pictures' : 'Data saver is off';
  clearTimeout(noticeTimer);
  noticeTimer = window.setTimeout(() => {
    notice = '';
    render();
  }, 3000);
  agent?.setSaver(on);
}

function toggleFullscreen() {
  if (document.fullscreenElement) void document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
}

document.addEventListener('fullscreenchange', () => {
  document.body.classList.toggle('full', document.fullscreenElement !== null);
  render();
});

// Over the picture the header fades, as the controls of a camera do.
function wake() {
  document.body.classList.remove('idle');
  clearTimeout(idleTimer);
  idleTimer = window.setTimeout(() => header.querySelector(':focus-visible') || document.body.classList.add('idle'), IDLE_MS);
}
for (const event of ['pointermove', 'pointerdown', 'keydown', 'focusin']) document.addEventListener(event, wake);
wake();

// ------------------------------------------------------------------ keyboard

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event) || document.querySelector('dialog[open]')) return;
  const tile = grid.tile();
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const one = grid.cameras[Number(key) - 1];
  if (/^[1-9]$/.test(key) && one) grid.dispatchEvent(new CustomEvent('edge-open')) && open(one.camera);
  else if (key === 'Escape' && tile?.detailsOpen) tile.toggleDetails(false);
  else if (key === 'Escape' && tile) open('');
  else if (key === 'ArrowLeft' && tile) grid.step(-1);
  else if (key === 'ArrowRight' && tile) grid.step(1);
  else if (key === 'f') toggleFullscreen();
  else if (key === 'z') tile ? tile.toggleFit() : toggleFit();
  else if (key === 's') void (tile ?? focusedTile())?.saveSnapshot(event.shiftKey ? 'image/png' : 'image/jpeg');
  else if (key === 'p') void (tile ?? focusedTile())?.togglePictureInPicture();
  else if (key === 'd' && tile) tile.toggleDetails();
  else if (key === 'q' && tile) void tile.toggleQuality();
  else if (key === '?') void help();
  else return;
  event.preventDefault();
});

/** @param {string} camera */
function open(camera) {
  if (camera === grid.selected) return;
  grid.setAttribute('camera', camera);
  grid.tile(camera)?.focusPicture();
  selected(camera);
}

/** The tile with the focus, or the only one. */
function focusedTile() {
  const active = grid.shadowRoot?.activeElement;
  return grid.cameras.find((tile) => tile === active) ?? (grid.cameras.length === 1 ? grid.cameras[0] : null);
}

/** @param {Event} event */
function typing(event) {
  const target = event.composedPath()[0];
  return target instanceof HTMLElement && (target.matches('input, textarea, select') || target.isContentEditable);
}

async function help() {
  if (document.querySelector('dialog')) return;
  (await import('./help.js')).help();
}

// ------------------------------------------------------------------ for measurements and the curious

/** Read-only: what the page knows. */
const edge = Object.freeze({
  get state() {
    return agent?.store.state ?? null;
  },
  get link() {
    return agent?.summary ?? null;
  },
  get clock() {
    return agent?.clock.estimate(performance.now()) ?? null;
  },
  /** @returns {Record<string, {phase: string, text: string, frames: number, width: number, height: number}>} */
  get cameras() {
    return Object.fromEntries(
      grid.cameras.map((tile) => [
        tile.camera,
        { ...tile.state, frames: tile.frames, width: tile.video?.videoWidth ?? 0, height: tile.video?.videoHeight ?? 0 },
      ]),
    );
  },
  /** The element of a camera. @param {string} name */
  camera: (name) => grid.tile(name),
});
Object.defineProperty(window, 'edge', { value: edge });
