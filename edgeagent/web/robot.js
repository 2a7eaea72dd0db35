// @ts-check
/**
 * What the page gets where an agent has devices: a button for them in the header, one to drive in a camera's own view, and the way
 * there by the address (`#drive/<camera>`). Loaded only then.
 *
 * @typedef {import('./agent.js').Agent} Agent
 * @typedef {import('./camera.js').EdgeCamera} EdgeCamera
 * @typedef {import('./grid.js').EdgeGrid} EdgeGrid
 */
import { EdgeDrive } from './drive.js';
import { el, sheet } from './dom.js';
import { outline } from './icons.js';
import { forms } from './robot-style.js';
import { EdgeDevices } from './sensors.js';
import { fromFragment, toFragment } from './settings.js';
import { base } from './styles.js';

const DEVICES = 'M4.5 5h6v6h-6zM13.5 5h6v6h-6zM4.5 14h6v5h-6zM13.5 14h6v5h-6z';
const WHEEL = 'M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17zM12 14.500a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM9.6 12H3.600M14.4 12h6M12 14.500v6';

const panelStyle = sheet(`
:host { position: fixed; inset: 0 0 0 auto; width: min(400px, 100%); z-index: 4; display: flex; flex-direction: column; background: var(--_surface); color: var(--_text); box-shadow: 0 0 32px rgb(0 0 0 / .35); }
header { display: flex; align-items: center; gap: 4px; padding: calc(4px + env(safe-area-inset-top)) calc(8px + env(safe-area-inset-right)) 4px 20px; flex: none; }
header h2 { flex: 1; font-size: 16px; line-height: 24px; font-weight: 600; }
.stop { min-width: 88px; height: 44px; padding: 0 20px; margin-right: 8px; border: 0; border-radius: 22px; background: #d21f17; color: #fff; font-weight: 800; letter-spacing: .04em; }
.body { flex: 1; min-height: 0; overflow: auto; overscroll-behavior: contain; padding: 4px 16px calc(20px + env(safe-area-inset-bottom)); }
@media (min-width: 900px) { :host { width: min(440px, 100%); } }
`);

const aloneStyle = sheet(`
:host { position: absolute; inset: 0; overflow: auto; background: var(--_surface); color: var(--_text); padding: 16px calc(16px + env(safe-area-inset-right)) calc(24px + env(safe-area-inset-bottom)) calc(16px + env(safe-area-inset-left)); }
div { max-width: 1200px; margin: 0 auto; }
.acts { display: flex; margin-bottom: 16px; } .acts:empty { display: none; }
`);

const driveStyle = sheet(`
:host { display: flex; --_accent: var(--edge-accent-on-video, #58b4ff); --_accent-ink: #04233d; }
:host(:not([slot])) { --_accent: var(--edge-accent, #58b4ff); --_accent-ink: var(--edge-accent-ink, #04233d); margin-right: 8px; }
button { display: flex; align-items: center; gap: 8px; height: 44px; padding: 0 20px 0 14px; border: 0; border-radius: 22px; background: var(--_accent); color: var(--_accent-ink); font-weight: 600; }
@media (max-width: 479px) { :host(:not([wide])) button { justify-content: center; width: 44px; padding: 0; } :host(:not([wide])) span { display: none; } }
`);

/** The panel with all devices, beside the pictures. */
class Panel extends HTMLElement {
  /** @param {Agent} agent @param {() => void} close */
  constructor(agent, close) {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, forms, panelStyle];
    const control = agent.store.state.desk?.control;
    const shut = el('button', { class: 'icon', type: 'button', 'aria-label': 'Close the devices', title: 'Close the devices' }, outline('M6.5 6.5l11 11M17.5 6.5l-11 11'));
    shut.addEventListener('click', close);
    const stop = el('button', { class: 'stop', type: 'button', 'aria-label': 'Stop everything that moves', hidden: !control?.store.state.devices.some((device) => device.moves) }, 'STOP');
    stop.addEventListener('pointerdown', () => control?.stop(performance.now()).catch(() => {}));
    stop.addEventListener('click', (event) => event.detail === 0 && control?.stop(performance.now()).catch(() => {}));
    const devices = new EdgeDevices();
    if (control) devices.control = control;
    root.append(el('header', {}, el('h2', {}, 'Devices'), stop, shut), el('div', { class: 'body' }, devices));
    root.addEventListener('keydown', (event) => {
      if (/** @type {KeyboardEvent} */ (event).key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      close();
    });
    this.setAttribute('role', 'dialog');
    this.setAttribute('aria-label', 'Devices');
  }

  focusClose() {
    /** @type {HTMLElement | null | undefined} */ (this.shadowRoot?.querySelector('.icon'))?.focus({ preventScroll: true });
  }
}

/** The page of an agent without cameras. */
class Alone extends HTMLElement {
  acts = el('div', { class: 'acts' });

  /** @param {import('./control.js').Control} control */
  constructor(control) {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, aloneStyle];
    const devices = new EdgeDevices();
    devices.control = control;
    root.append(el('div', {}, this.acts, devices));
  }
}

/** The button in a camera's bar, in the header or, `wide`, where there is room for its name on a phone, too. */
class DriveButton extends HTMLElement {
  /** @param {() => void} act */
  constructor(act) {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, driveStyle];
    const button = el('button', { type: 'button', 'aria-label': 'Drive', title: 'Drive' }, outline(WHEEL), el('span', {}, 'Drive'));
    button.addEventListener('click', act);
    root.append(button);
  }
}

customElements.define('edge-device-panel', Panel);
customElements.define('edge-drive-button', DriveButton);
customElements.define('edge-device-page', Alone);

/**
 * @param {Agent} agent
 * @param {EdgeGrid} grid
 * @param {HTMLElement} main where the pictures are
 * @param {HTMLElement} header where its buttons are
 */
export function furnish(agent, grid, main, header) {
  /** @type {EdgeDrive | null} */
  let drive = null;
  /** @type {Panel | null} */
  let panel = null;
  /** @type {Alone | null} */
  let alone = null;
  const button = el('button', { class: 'icon', type: 'button', 'aria-label': 'Devices', title: 'Devices' }, outline(DEVICES));
  const driveButton = new DriveButton(() => open(true));
  driveButton.slot = 'controls';
  const headerButton = new DriveButton(() => (location.hash = toFragment(location.hash, eye(), true)));
  /** @type {import('./desk.js').Desk | null} */
  let desk = null;

  button.addEventListener('click', () => togglePanel());
  header.prepend(headerButton, button);

  /** The camera to drive by, where none was chosen: one that is called like what moves, or the first. */
  function eye() {
    const moving = desk?.control.store.state.devices.filter((device) => device.moves) ?? [];
    const { cameras } = agent.store.state;
    const named = cameras.find((camera) => moving.some(({ name, title }) => camera.name.includes(name) || (title && camera.title.includes(title))));
    return (named ?? cameras[0])?.name ?? '';
  }

  function togglePanel() {
    button.setAttribute('aria-expanded', String(!panel));
    if (panel) {
      const had = panel.matches(':focus-within');
      panel.remove();
      panel = null;
      if (had) button.focus();
      return;
    }
    panel = new Panel(agent, togglePanel);
    document.body.append(panel);
    panel.focusClose();
  }

  /** @param {boolean} push whether the way back leads to the camera */
  function open(push) {
    const tile = grid.tile();
    if (drive || (!tile && !alone)) return;
    if (panel) togglePanel();
    tile?.toggleDetails(false);
    drive = new EdgeDrive();
    drive.open(agent, tile);
    drive.addEventListener('edge-close', () => {
      if (!tile) close();
      else if (history.state?.drive) history.back();
      else {
        history.replaceState(history.state, '', toFragment(location.hash, grid.selected));
        show();
      }
    });
    if (push && tile) history.pushState({ edge: true, drive: true }, '', toFragment(location.hash, tile.camera, true));
    main.append(drive);
  }

  function close() {
    drive?.remove();
    drive = null;
    grid.tile()?.focusPicture();
  }

  /** What the address and the agent say. */
  function show() {
    const state = agent.store.state;
    const here = grid.agent === agent;
    button.hidden = !here || !state.devices;
    if (state.desk && state.desk !== desk) {
      desk = state.desk;
      desk.control.store.subscribe(show);
    }
    const tile = grid.tile();
    const drivable = Boolean(desk?.control.drivable.length);
    if (desk && here && state.devices && !state.cameras.length) {
      if (!alone) main.append((alone = new Alone(desk.control)));
    } else {
      alone?.remove();
      alone = null;
    }
    const place = here && drivable ? (tile ?? alone?.acts) : null;
    if (!place) driveButton.remove();
    else if (driveButton.parentNode !== place) place.append(driveButton);
    driveButton.toggleAttribute('wide', !tile);
    headerButton.hidden = !here || !drivable || !state.cameras.length;
    if (alone) return;
    const wanted = here && fromFragment(location.hash).drive;
    if (wanted && !drive) open(false);
    else if (!wanted && drive) close();
  }

  agent.store.subscribe(show);
  grid.addEventListener('edge-select', () => queueMicrotask(show));
  // After the page has followed the address.
  window.addEventListener('popstate', () => queueMicrotask(show));
  window.addEventListener('hashchange', show);
  show();
}
