// @ts-check
/**
 * `<edge-drive>`: drive what an agent has that moves, over the picture of one of its cameras. It lies over that camera's element and
 * shows sticks, figures and the stop button; nothing here is modal, so that stop stays in reach. Fires `edge-close`.
 *
 * @typedef {import('./control.js').Wheel} Wheel
 * @typedef {import('./desk.js').Desk} Desk
 * @typedef {import('./drive-words.js').Act} Act
 *
 * @typedef {object} Picture what is driven by: an `<edge-camera>`
 * @property {string} heading
 * @property {string} camera
 * @property {HTMLVideoElement | null} video
 * @property {import('./control.js').Shown | null} shown
 * @property {{ms: number, uncertainty: number} | null} delay
 * @property {Promise<{lossPercent: number, fps: number} | null>} stats
 * @property {'off' | 'some' | 'all'} sampling
 * @property {HTMLElement['getAttribute']} getAttribute
 * @property {HTMLElement['setAttribute']} setAttribute
 * @property {HTMLElement['toggleAttribute']} toggleAttribute
 */
import { FROZEN_MS } from './control.js';
import { el, preference, setText } from './dom.js';
import { Gauge, Levers, Stick } from './drive-parts.js';
import { batteryOf, hindrance, linkOf, LOSSY, SLOW_MS, speedOf, standing } from './drive-words.js';
import { Pads } from './gamepads.js';
import { outline } from './icons.js';
import { Keys, still, together } from './inputs.js';
import { drive as style, forms } from './robot-style.js';
import { base } from './styles.js';
import { titleOf } from './words.js';

const FIGURES_MS = 500;
const STATS_MS = 1000;
/** A lease that was lost with the connection is asked for again within this time. */
const REJOIN_MS = 10_000;
/** More of the picture than this is not cut away to fill the window. */
const CROP = 1.3;
/** Fields that a space is typed into, and those that keep the keyboard to themselves: a list, once open, tells of no key at all. */
const TEXT = 'input:is(:not([type]), [type=text], [type=password], [type=search]), textarea';
const FIELD = 'input:not([type=range], [type=checkbox]), select, textarea';

const ICONS = {
  back: 'M14.5 5.5 8 12l6.5 6.5',
  close: 'M6.5 6.5l11 11M17.5 6.5l-11 11',
  devices: 'M4.5 5h6v6h-6zM13.5 5h6v6h-6zM4.5 14h6v5h-6zM13.5 14h6v5h-6z',
  pad: 'M8 8h8a5 5 0 0 1 5 5c0 3-1 5-2.6 5S16 15 14.5 15h-5C8 15 7 18 5.6 18S3 16 3 13a5 5 0 0 1 5-5zM7 12h3M8.5 10.500v3M15.5 11h.01M17.5 13h.01',
  expand: 'M9 4.500H4.500V9M15 4.500h4.500V9M9 19.500H4.500V15M15 19.500h4.500V15',
};

/** @param {string} d @param {string} label @param {() => void} act */
function button(d, label, act) {
  const element = el('button', { class: 'icon', type: 'button', 'aria-label': label, title: label }, outline(d));
  element.addEventListener('click', act);
  return element;
}

export class EdgeDrive extends HTMLElement {
  /** @type {Picture | null} */
  #picture = null;
  /** @type {import('./agent.js').Agent | null} */
  #agent = null;
  /** @type {Desk | null} */
  #desk = null;
  /** @type {Wheel | null} */
  #wheel = null;
  #keys = new Keys();
  #pads = new Pads();
  /** @type {Stick[]} */
  #sticks = [];
  #levers = new Levers(() => this.#moved());
  /** @type {(() => void)[]} */
  #ends = [];
  #frame = 0;
  #statsAt = 0;
  #figuresAt = 0;
  #loss = /** @type {number | null} */ (null);
  #held = false;
  /** @type {number} when the connection was lost that held the wheel */
  #lostAt = -Infinity;
  #stopped = false;
  /** Whether the space bar that is down has stopped everything. */
  #spent = false;
  #fit = '';
  #key = '';
  #asking = false;
  /** @type {{name: string, element: HTMLElement} | null} */
  #sheet = null;
  /** @type {WakeLockSentinel | null} */
  #awake = null;
  #toastTimer = 0;

  // The shadow tree.
  #heading = el('h2');
  #pillText = el('span');
  #pill = el('button', { class: 'pill', type: 'button', hidden: true }, this.#pillText, outline(ICONS.close));
  #select = el('select', { class: 'select', 'aria-label': 'What to drive', hidden: true });
  #more = el('button', { class: 'more', type: 'button', 'aria-label': 'The link in figures', title: 'The link in figures' });
  #figures = el('div', { class: 'figures' }, this.#more);
  /** @type {Map<string, HTMLElement>} */
  #values = new Map();
  #dockTitle = el('h3');
  #dockHint = el('p');
  #acts = el('div', { class: 'acts' });
  #spin = el('span', { class: 'spinner', 'aria-hidden': 'true' });
  #dock = el('div', { class: 'dock' }, this.#spin, this.#dockTitle, this.#dockHint, this.#acts);
  #hinder = el('p', { class: 'hinder', role: 'status', hidden: true });
  #said = el('div', { class: 'sr', role: 'status' });
  #gauge = new Gauge();
  #stop = el('button', { class: 'stop', type: 'button', 'aria-label': 'Stop everything that moves' }, 'STOP', el('small', {}, 'Space'));
  #caps = el('div', { class: 'keys', 'aria-hidden': 'true' });
  #toast = el('div', { class: 'toast', role: 'status' });

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, forms, style];
    for (const [key, label] of [['link', 'Link'], ['rtt', 'Round trip'], ['glass', 'Delay'], ['loss', 'Loss'], ['battery', 'Battery']]) {
      const value = el('b', {}, '–');
      this.#values.set(key, value);
      this.#figures.append(el('span', { class: `figure ${key}`, hidden: key === 'battery' }, el('small', {}, label), ' ', value));
    }
    this.#more.addEventListener('click', () => this.#exact(!this.hasAttribute('exact')));
    const top = el('div', { class: 'top' });
    const sheets = [button(ICONS.devices, 'Devices', () => void this.#toggleSheet('devices')), button(ICONS.pad, 'How to drive', () => void this.#toggleSheet('controls'))];
    const full = button(ICONS.expand, 'Full screen', () => void toggleFullscreen());
    full.hidden = !document.fullscreenEnabled;
    full.classList.add('full');
    top.append(button(ICONS.back, 'Back to the camera', () => this.#close()), this.#heading, this.#select, this.#pill, el('span', { class: 'spring' }), this.#figures, ...sheets, full);
    for (const key of ['W', 'A', 'S', 'D']) this.#caps.append(el('b', { 'data-key': key }, key));
    this.#caps.append(el('small', {}, 'Shift fast · Ctrl ↑ slow'));
    this.#sticks = [new Stick('left', () => this.#moved()), new Stick('right', () => this.#moved())];
    const middle = el('div', { class: 'middle' }, this.#hinder, this.#dock, this.#levers.element, this.#gauge.element);
    root.append(el('div', { class: 'veil' }), el('div', { class: 'frame' }), ...this.#sticks.map((each) => each.zone), this.#caps, top, middle, this.#stop, this.#toast, this.#said);
    // The press counts, not the release: a stop may not wait for a finger to be lifted.
    this.#stop.addEventListener('pointerdown', (event) => event.button === 0 && void this.#emergency());
    this.#stop.addEventListener('click', (event) => event.detail === 0 && void this.#emergency());
    this.#pill.addEventListener('click', () => void this.#act('release'));
    this.#select.addEventListener('change', () => {
      this.#select.blur();
      this.#begin(this.#select.value);
    });
    this.addEventListener('contextmenu', (event) => event.preventDefault());
  }

  /**
   * Drive by this picture, or without one.
   * @param {import('./agent.js').Agent} agent
   * @param {Picture | null} picture
   */
  open(agent, picture) {
    this.#agent = agent;
    this.#picture = picture;
  }

  connectedCallback() {
    const [agent, picture] = [this.#agent, this.#picture];
    if (!agent) return;
    const heading = picture?.heading ?? titleOf(agent.store.state.device, agent.store.state.title);
    this.setAttribute('role', 'region');
    this.setAttribute('aria-label', `Drive by ${heading}`);
    this.toggleAttribute('blind', !picture);
    this.#exact(preference.get('figures', '') !== '');
    setText(this.#heading, heading);
    if (picture) {
      this.#fit = picture.getAttribute('fit') ?? 'contain';
      picture.toggleAttribute('bare', true);
      picture.sampling = 'some';
    }
    agent.measuring += 1;
    const on = (/** @type {EventTarget} */ target, /** @type {string} */ type, /** @type {(event: any) => void} */ act) => {
      target.addEventListener(type, act, true);
      this.#ends.push(() => target.removeEventListener(type, act, true));
    };
    on(window, 'keydown', (event) => this.#keydown(event));
    on(window, 'keyup', (event) => this.#keyup(event));
    on(window, 'pointerdown', (event) => matches(event.composedPath()[0], FIELD) && this.#handsOff());
    on(window, 'blur', () => this.#handsOff());
    on(window, 'resize', () => this.#resize());
    on(window, 'pagehide', () => this.#away());
    on(window, 'beforeunload', (event) => this.#keys.slow && this.#keys.any && event.preventDefault());
    on(document, 'visibilitychange', () => this.#visibility());
    on(document, 'fullscreenchange', () => this.#fullscreen());
    this.#ends.push(agent.store.subscribe(() => this.#changed()));
    const loop = () => {
      this.#frame = requestAnimationFrame(loop);
      this.#tick(performance.now());
    };
    loop();
    this.#changed();
    this.#resize();
  }

  disconnectedCallback() {
    cancelAnimationFrame(this.#frame);
    for (const end of this.#ends.splice(0)) end();
    if (!this.#agent) return;
    this.#away();
    this.#desk?.drive('');
    this.#desk = this.#wheel = null;
    this.#agent.measuring -= 1;
    if (this.#picture) {
      this.#picture.sampling = 'off';
      this.#picture.toggleAttribute('bare', false);
      this.#picture.setAttribute('fit', this.#fit);
    }
    void this.#awake?.release().catch(() => {});
    clearTimeout(this.#toastTimer);
  }

  // ------------------------------------------------------------------ what the agent says

  #changed() {
    const desk = this.#agent?.store.state.desk ?? null;
    if (desk && desk !== this.#desk) {
      this.#desk = desk;
      this.#ends.push(desk.control.store.subscribe(() => this.#told()));
      this.#told();
    } else this.#render();
  }

  #told() {
    const control = this.#desk?.control;
    if (!control) return;
    const groups = control.drivable;
    if ((!this.#wheel || !groups.includes(this.#wheel.group)) && groups.length) this.#begin(groups[0]);
    const names = groups.map((name) => titleOf(name, control.group(name)?.title));
    const key = names.join('|');
    if (this.#select.dataset.key !== key) {
      this.#select.dataset.key = key;
      this.#select.replaceChildren(...groups.map((name, i) => el('option', { value: name, selected: name === this.#wheel?.group }, names[i])));
    }
    this.#select.hidden = groups.length < 2;
    const group = this.#wheel && control.group(this.#wheel.group);
    const stopped = group?.state === 'stopped';
    // Whoever has pressed it here has felt it.
    if (stopped && !this.#stopped && group.stopped_by !== control.store.state.you) this.#shake();
    this.#stopped = stopped;
    const { open, told } = control.store.state;
    if (this.#held && !open) this.#lostAt = performance.now();
    this.#held = Boolean(group?.lease);
    // It begins disarmed: nothing moves until the stick has been let go.
    if (open && told && group && control.operates && performance.now() - this.#lostAt < REJOIN_MS && !document.hidden) {
      this.#lostAt = -Infinity;
      if (!group.holder) void this.#act('request');
    }
    void this.#stayAwake(this.#held);
    this.#render();
  }

  /** @param {string} group */
  #begin(group) {
    const desk = this.#desk;
    if (!desk || !this.#agent) return;
    if (this.#wheel?.holds) void this.#act('release');
    const wheel = (this.#wheel = desk.drive(group, () => this.#look()));
    if (!wheel) return;
    const fps = this.#agent.store.state.cameras.find((each) => each.name === this.#picture?.camera)?.fps ?? 0;
    wheel.patience = Math.max(FROZEN_MS, fps ? 3000 / fps : 0);
    wheel.hidden = document.hidden;
    wheel.seeing = this.#picture !== null;
    const [left, right] = this.#sticks;
    left.roles = wheel.has('throttle') || wheel.has('steer') ? ['steer', 'throttle'] : null;
    right.roles = wheel.has('pan') || wheel.has('tilt') ? ['pan', 'tilt'] : null;
    this.#caps.hidden = !left.roles;
    this.#render();
  }

  // ------------------------------------------------------------------ hands

  /** Hands have moved: the set-point need not wait for its turn. */
  #moved() {
    const wheel = this.#wheel;
    if (!wheel) return;
    this.#look();
    wheel.tick(performance.now(), true);
  }

  #look() {
    const wheel = this.#wheel;
    if (!wheel) return;
    wheel.shown = this.#picture?.shown ?? null;
    if (this.#keys.any && matches(focused(), FIELD)) this.#keys.clear();
    const touch = still();
    for (const each of this.#sticks) if (each.roles) [touch[each.roles[0]], touch[each.roles[1]]] = [each.x, each.y];
    const pad = this.#pads.read();
    if (this.#pads.lost && wheel.holds) {
      wheel.control.halt(wheel.group, 'gamepad', performance.now()).catch(() => {});
      this.#say('The gamepad is gone');
    }
    wheel.hands = together(touch, this.#keys.hands(performance.now()), pad);
    if (pad.stop) void this.#emergency();
    if (pad.wheel && !wheel.holds) void this.#act('request');
  }

  #handsOff() {
    this.#keys.clear();
    this.#levers.drop();
    for (const each of this.#sticks) each.drop();
    this.#moved();
    this.#render();
  }

  /** @param {KeyboardEvent} event */
  #keydown(event) {
    const path = event.composedPath();
    const target = /** @type {HTMLElement} */ (path[0]);
    if (this.#keys.modifiers(event)) this.#handsOff();
    if (event.altKey || event.metaKey) return;
    if (this.#levers.takes(event)) return event.stopPropagation();
    const driven = this.#somebodyDrives;
    const inSheet = this.#sheet !== null && path.includes(this.#sheet.element);
    if (event.code === 'Escape' && !event.repeat) {
      if (driven) void this.#emergency();
      else if (this.#sheet) void this.#toggleSheet(this.#sheet.name);
      else if (document.fullscreenElement) void toggleFullscreen();
      else this.#close();
    } else if (event.code === 'Space' && this.#wheel?.holds && !matches(target, TEXT)) {
      if (!event.repeat) void this.#emergency();
      this.#spent = true;
    } else if (matches(target, FIELD) || (inSheet && !this.#wheel?.holds)) {
      event.stopPropagation();
      return;
    } else if (event.code === 'Space' && driven && !target.matches?.(':focus-visible')) {
      if (!event.repeat) void this.#emergency();
      this.#spent = true;
    } else if (event.code === 'KeyF' && !event.ctrlKey) {
      if (!event.repeat) void toggleFullscreen();
    } else if (event.code === 'KeyC' && !event.ctrlKey) this.#wheel?.centre();
    else if (this.#wheel?.holds && this.#keys.press(event.code, performance.now(), event.repeat)) this.#moved();
    else {
      // The page below has shortcuts of its own.
      if (!['Tab', 'Enter', 'Space'].includes(event.code)) event.stopPropagation();
      this.#capsShow();
      return;
    }
    this.#capsShow();
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {KeyboardEvent} event */
  #keyup(event) {
    if (this.#keys.modifiers(event)) this.#handsOff();
    else if (this.#keys.release(event.code)) this.#moved();
    // A focused button would be pressed, or a list opened, by the space that has just stopped everything.
    if (event.code === 'Space' && this.#spent) {
      this.#spent = false;
      event.preventDefault();
    }
    this.#capsShow();
  }

  #capsShow() {
    const { throttle, steer } = this.#keys.hands(performance.now());
    const down = { W: throttle > 0, S: throttle < 0, A: steer < 0, D: steer > 0 };
    for (const cap of this.#caps.querySelectorAll('b')) cap.classList.toggle('down', down[/** @type {keyof typeof down} */ (cap.dataset.key)]);
  }

  get #somebodyDrives() {
    const group = this.#wheel && this.#desk?.control.group(this.#wheel.group);
    return Boolean(group?.holder || group?.lease);
  }

  // ------------------------------------------------------------------ what the person asks for

  async #emergency() {
    this.#handsOff();
    this.#shake();
    try {
      if (!this.#desk) throw new Error('There is no connection at the moment.');
      await this.#desk.control.stop(performance.now());
    } catch (error) {
      this.#say(`Stop did not get through: ${/** @type {Error} */ (error).message} The robot stops by itself when it hears nothing.`);
    }
  }

  #shake() {
    navigator.vibrate?.([70, 50, 140]);
    this.#pads.rumble();
  }

  /** @param {Act} act */
  async #act(act) {
    const [wheel, control] = [this.#wheel, this.#desk?.control];
    if (!wheel || !control || this.#asking) return;
    if (act === 'signin') return void this.#toggleSheet('signin');
    const now = performance.now();
    const next = control.group(wheel.group)?.queue[0]?.viewer;
    this.#asking = act !== 'release';
    this.#render();
    try {
      if (act === 'reset') await control.reset(now);
      else await control.lease(wheel.group, act, now, act === 'hand' ? next : undefined);
    } catch (error) {
      this.#say(/** @type {Error} */ (error).message);
    }
    this.#asking = false;
    this.#render();
  }

  /** Nobody looks any more: stand still, and give the wheel back. */
  #away() {
    const wheel = this.#wheel;
    this.#keys.clear();
    this.#levers.drop();
    for (const each of this.#sticks) each.drop();
    this.#lostAt = -Infinity;
    if (!wheel) return;
    wheel.hands = still();
    if (!wheel.holds) {
      const { you } = wheel.control.store.state;
      if (wheel.control.group(wheel.group)?.queue.some((each) => each.viewer === you)) wheel.control.lease(wheel.group, 'cancel', performance.now()).catch(() => {});
      return;
    }
    wheel.control.halt(wheel.group, document.hidden ? 'hidden' : 'person', performance.now()).catch(() => {});
    wheel.control.lease(wheel.group, 'release', performance.now()).catch(() => {});
  }

  #visibility() {
    if (this.#wheel) this.#wheel.hidden = document.hidden;
    if (document.hidden) this.#away();
  }

  #fullscreen() {
    this.#resize();
    // Where Escape belongs to the browser, it ends full screen, and whoever pressed it meant to stop.
    const wheel = this.#wheel;
    if (!document.fullscreenElement && !leaving && wheel?.holds) wheel.control.halt(wheel.group, 'person', performance.now()).catch(() => {});
    leaving = false;
  }

  #close() {
    this.dispatchEvent(new CustomEvent('edge-close'));
  }

  /** @param {boolean} awake */
  async #stayAwake(awake) {
    if (awake === Boolean(this.#awake) || !('wakeLock' in navigator)) return;
    try {
      if (awake) {
        this.#awake = await navigator.wakeLock.request('screen');
        this.#awake.addEventListener('release', () => (this.#awake = null));
      } else await this.#awake?.release();
    } catch {
      // A screen that goes dark hides the page, and that stops.
    }
  }

  // ------------------------------------------------------------------ sheets

  /** @param {string} name */
  async #toggleSheet(name) {
    const had = this.#sheet?.name;
    this.#sheet?.element.remove();
    this.#sheet = null;
    this.toggleAttribute('beside', false);
    const control = this.#desk?.control;
    if (had === name || !control) return;
    const title = { devices: 'Devices', controls: 'How to drive', signin: 'Sign in' }[name] ?? '';
    const body = el('div', { class: 'body' });
    const close = button(ICONS.close, 'Close', () => void this.#toggleSheet(name));
    const element = el('section', { class: 'sheet', role: 'dialog', 'aria-label': title }, el('header', {}, el('h2', {}, title), close), body);
    this.#sheet = { name, element };
    if (name === 'devices') {
      const { EdgeDevices } = await import('./sensors.js');
      const devices = new EdgeDevices();
      devices.control = control;
      // From here on, keys drive again.
      devices.shadowRoot?.addEventListener('change', ({ target }) => matches(target, 'select') && this.#wheel?.holds && /** @type {HTMLElement} */ (target).blur());
      body.append(devices);
    } else if (name === 'controls') {
      const { EdgePads } = await import('./pads.js');
      const pads = new EdgePads();
      pads.pads = this.#pads;
      pads.src = this.#agent?.settings.src ?? '';
      [pads.drives, pads.looks] = this.#sticks.map((each) => each.roles !== null);
      pads.slides = this.#wheel?.has('other') ?? false;
      body.append(pads);
    } else {
      const { tokenForm } = await import('./token.js');
      const { form, focus } = tokenForm(control, () => this.#sheet?.name === name && void this.#toggleSheet(name));
      body.append(form);
      setTimeout(focus);
    }
    if (this.#sheet?.element !== element) return;
    this.toggleAttribute('beside', true);
    this.shadowRoot?.insertBefore(element, this.#stop);
    close.focus({ preventScroll: true });
  }

  /** @param {string} text */
  #say(text) {
    setText(this.#toast, text);
    this.#toast.classList.add('on');
    clearTimeout(this.#toastTimer);
    this.#toastTimer = window.setTimeout(() => this.#toast.classList.remove('on'), 4000);
  }

  // ------------------------------------------------------------------ what is shown

  /** @param {number} now */
  #tick(now) {
    this.#look();
    if (now - this.#statsAt >= STATS_MS) {
      this.#statsAt = now;
      this.#resize();
      this.#picture?.stats.then((stats) => (this.#loss = stats && stats.lossPercent), () => {});
    }
    if (now - this.#figuresAt >= FIGURES_MS) {
      this.#figuresAt = now;
      this.#showFigures(now);
    }
    const wheel = this.#wheel;
    const control = this.#desk?.control;
    if (!wheel || !control) return;
    const mine = wheel.holds;
    if (mine) {
      const speed = speedOf(wheel.devices, (device, reading) => control.value(device, reading));
      this.#gauge.show(wheel.hands.throttle, wheel.hands.steer, speed);
      const text = hindrance(wheel.figures(now)) || (this.#pads.waits ? 'Gamepad: let go of its sticks, press each pedal once' : '');
      setText(this.#hinder, text);
      this.#hinder.hidden = !text || wheel.frozen;
    } else this.#hinder.hidden = true;
    this.#gauge.element.hidden = !mine || !this.#sticks[0].roles;
    const key = `${wheel.frozen} ${wheel.neutral} ${mine}`;
    if (key === this.#key) return;
    this.#key = key;
    this.#render();
  }

  #render() {
    const wheel = this.#wheel;
    const control = this.#desk?.control;
    const state = control?.store.state;
    const said = standing({
      open: state?.open ?? false,
      told: state?.told ?? false,
      you: state?.you ?? '',
      operates: control?.operates ?? false,
      admin: control?.may('admin') ?? false,
      group: (wheel && control?.group(wheel.group)) ?? null,
      neutral: wheel?.neutral ?? true,
      typing: this.#keys.any,
      frozen: wheel?.frozen ?? false,
      seen: Boolean(wheel?.shown),
    });
    const mine = wheel?.holds ?? false;
    this.setAttribute('tone', said.tone);
    this.toggleAttribute('mine', mine);
    this.#levers.show(mine ? wheel : null, said.tone === 'armed');
    this.#pill.hidden = !mine;
    const driving = said.tone === 'armed';
    setText(this.#pillText, driving ? 'You drive' : 'Let go');
    this.#pill.setAttribute('aria-label', `${driving ? 'You drive. ' : ''}Let go of the wheel`);
    this.#pill.title = 'Let go of the wheel';
    this.#dock.dataset.tone = said.tone;
    this.#dock.hidden = said.tone === 'armed' && !said.acts.length;
    this.#spin.hidden = said.tone !== 'wait' || state?.open === true;
    setText(this.#dockTitle, said.title);
    setText(this.#dockHint, said.hint);
    this.#dockHint.hidden = !said.hint;
    setText(this.#said, `${said.title}${said.hint ? `. ${said.hint}` : ''}`);
    const key = `${this.#asking} ${said.acts.map((each) => `${each.act} ${each.label}`).join()}`;
    if (this.#acts.dataset.key === key) return;
    this.#acts.dataset.key = key;
    const focused = /** @type {HTMLElement | null} */ (this.shadowRoot?.activeElement)?.dataset.act;
    this.#acts.replaceChildren(
      ...said.acts.map(({ act, label, primary }) => {
        const element = el('button', { type: 'button', class: primary ? 'primary' : 'plain', 'data-act': act, disabled: this.#asking }, label);
        element.addEventListener('click', () => void this.#act(act));
        return element;
      }),
    );
    if (focused) /** @type {HTMLElement | null} */ (this.#acts.querySelector(`[data-act="${focused}"]`))?.focus({ preventScroll: true });
  }

  /** @param {boolean} exact how good the link is, in a word or in figures */
  #exact(exact) {
    this.toggleAttribute('exact', exact);
    this.#more.setAttribute('aria-pressed', String(exact));
    preference.set('figures', exact ? 'exact' : '');
  }

  /** @param {number} now */
  #showFigures(now) {
    const control = this.#desk?.control;
    const figures = this.#wheel?.figures(now);
    const put = (/** @type {string} */ key, /** @type {string} */ text, /** @type {boolean} */ bad) => {
      const value = /** @type {HTMLElement} */ (this.#values.get(key));
      setText(value, text);
      value.parentElement?.classList.toggle('bad', bad);
    };
    const rtt = figures?.rtt ?? this.#agent?.clock.estimate(now)?.rtt ?? null;
    put('rtt', rtt === null ? '–' : rtt < 1 ? '< 1 ms' : `${Math.round(rtt)} ms`, (rtt ?? 0) > SLOW_MS);
    const glass = this.#picture?.delay?.ms ?? figures?.age ?? null;
    put('glass', glass === null ? '–' : `${Math.round(glass)} ms`, (glass ?? 0) > 400);
    const link = linkOf({ rtt, loss: this.#loss, silent: figures?.silent ?? false, open: control?.store.state.open ?? false });
    put('link', link.text, link.bad);
    put('loss', this.#loss === null ? '–' : `${this.#loss < 10 ? this.#loss.toFixed(1) : Math.round(this.#loss)} %`, (this.#loss ?? 0) >= LOSSY);
    const battery = control ? batteryOf(control.store.state.devices, (device, reading) => control.value(device, reading)) : null;
    const cell = /** @type {HTMLElement} */ (this.#values.get('battery'));
    /** @type {HTMLElement} */ (cell.parentElement).hidden = !battery;
    if (!battery) return;
    cell.parentElement?.classList.toggle('bad', battery.warn);
    const text = battery.text + (battery.share ?? '');
    if (cell.dataset.text === text) return;
    cell.dataset.text = text;
    const fill = el('i');
    fill.style.width = `${Math.round(100 * (battery.share ?? 0))}%`;
    cell.replaceChildren(...(battery.share === null ? [] : [el('span', { class: 'cell', 'aria-hidden': 'true' }, fill)]), battery.text);
  }

  /** Fill the window where that cuts little away. */
  #resize() {
    const video = this.#picture?.video;
    const upright = innerHeight > innerWidth;
    const ratio = video?.videoWidth ? innerWidth / innerHeight / (video.videoWidth / video.videoHeight) : 1;
    const fit = !upright && Math.max(ratio, 1 / ratio) <= CROP ? 'cover' : 'contain';
    if (this.#picture?.getAttribute('fit') !== fit) this.#picture?.setAttribute('fit', fit);
  }
}

/** @param {EventTarget | null} target @param {string} selector */
const matches = (target, selector) => target instanceof Element && target.matches(selector);

/** The element that has the keyboard, within whatever elements. */
function focused() {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element;
}

/** Whether full screen ends because its button was pressed. */
let leaving = false;

/** A phone is turned with it, where the browser lets it. */
async function toggleFullscreen() {
  try {
    if (document.fullscreenElement) {
      leaving = true;
      return await document.exitFullscreen();
    }
    await document.documentElement.requestFullscreen({ navigationUI: 'hide' });
    await /** @type {any} */ (navigator).keyboard?.lock?.(['Escape']);
    if (matchMedia('(pointer: coarse)').matches) await /** @type {any} */ (screen.orientation).lock?.('landscape');
  } catch {
    // It stays as it is.
  }
}

customElements.define('edge-drive', EdgeDrive);
