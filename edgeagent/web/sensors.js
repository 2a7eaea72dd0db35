// @ts-check
/**
 * `<edge-devices>`: what an agent's devices tell, and what they can be told: readings with their last minute, switches, and a form for
 * each command, made from its JSON Schema. `<edge-sensor>`: one reading.
 *
 * @typedef {import('./control.js').Control} Control
 * @typedef {import('./wire.js').CommandInfo} CommandInfo
 * @typedef {import('./wire.js').DeviceInfo} DeviceInfo
 * @typedef {import('./wire.js').ReadingInfo} ReadingInfo
 * @typedef {import('./fields.js').Field} Field
 */
import { HISTORY_MS } from './control.js';
import { el, setText } from './dom.js';
import { reason } from './drive-words.js';
import { argsOf, fieldsOf, readingText, sparkline, toggleOf, wordsOf } from './fields.js';
import { outline } from './icons.js';
import { devices as style, forms, sensor as sensorStyle } from './robot-style.js';
import { base } from './styles.js';
import { tokenForm } from './token.js';
import { titleOf } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [120, 28];

/** What a driver's `icon` is drawn as. @type {Record<string, string>} */
const SIGNS = {
  light: 'M9 18h6M10 21h4M12 3a6 6 0 0 1 3.6 10.8c-.7.6-1.1 1.3-1.1 2.2h-5c0-.9-.4-1.6-1.1-2.2A6 6 0 0 1 12 3z',
  switch: 'M12 4v8M7.5 6.8a7 7 0 1 0 9 0',
  motor: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM12 4v6M5.1 16l5.2-3M18.9 16l-5.2-3',
  servo: 'M4 14h10v6H4zM14 16h3a3 3 0 0 0 0-6H9V7M6.5 7h5',
  battery: 'M3.5 8.5h15v7h-15zM21 11v2M6.5 11v2M10 11v2',
  temperature: 'M10 13.5V5.5a2 2 0 0 1 4 0v8a4 4 0 1 1-4 0zM12 9v7',
  humidity: 'M12 3.5c3.2 4 5 6.6 5 9a5 5 0 0 1-10 0c0-2.4 1.8-5 5-9z',
  pressure: 'M4.5 16a8 8 0 1 1 15 0M12 14l3.5-4.500M12 15.500a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z',
  motion: 'M12 13.500a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM8 16a5.7 5.7 0 0 1 0-8M16 8a5.7 5.7 0 0 1 0 8M5 19a10 10 0 0 1 0-14M19 5a10 10 0 0 1 0 14',
  distance: 'M3.5 9h17v6h-17zM7.5 9v3M12 9v3M16.5 9v3',
  sound: 'M4.5 9.500v5h3.500l4.5 4v-13l-4.5 4zM16 9a4.2 4.2 0 0 1 0 6M18.5 6.500a7.8 7.8 0 0 1 0 11',
  rover: 'M4 10.500h16v5H4zM7 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM17 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM9 10.500V7h5l2 3.5',
  board: 'M7 7h10v10H7zM10 7V4M14 7V4M10 20v-3M14 20v-3M7 10H4M7 14H4M20 10h-3M20 14h-3',
  '': 'M5 5h14v14H5zM9 12h6M12 9v6',
};
/** @type {Record<string, string>} */
const ALIKE = { led: 'light', lamp: 'light', relay: 'switch', buzzer: 'sound', camera: 'servo', 'pan-tilt': 'servo', robot: 'rover', car: 'rover', system: 'board', cpu: 'board', drive: 'motor' };

/** @param {string} icon */
export const sign = (icon) => outline(SIGNS[icon] ?? SIGNS[ALIKE[icon]] ?? SIGNS['']);

export class EdgeSensor extends HTMLElement {
  /** @type {ReadingInfo | null} */
  #reading = null;
  #name = el('div', { class: 'name' });
  #value = el('b');
  #unit = el('span');
  #flag = el('i');
  #box = el('div', { class: 'value' });
  #svg = document.createElementNS(SVG, 'svg');
  #path = document.createElementNS(SVG, 'path');

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, sensorStyle];
    this.#svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.#svg.setAttribute('preserveAspectRatio', 'none');
    this.#svg.setAttribute('aria-hidden', 'true');
    this.#svg.append(this.#path);
    root.append(this.#name, this.#box, this.#svg);
  }

  /** @param {ReadingInfo} reading */
  set reading(reading) {
    this.#reading = reading;
    const title = reading.title || wordsOf(reading.name);
    setText(this.#name, title);
    this.setAttribute('role', 'group');
    this.setAttribute('aria-label', title);
    const flag = reading.kind === 'flag';
    this.#box.className = `value ${flag ? 'flag' : ''}`;
    this.#box.replaceChildren(...(flag ? [this.#flag] : []), this.#value, this.#unit);
    this.#svg.toggleAttribute('hidden', reading.kind !== 'number');
    this.classList.toggle('text', reading.kind === 'text');
  }

  /** @param {readonly import('./control.js').Point[]} points @param {number} now */
  show(points, now) {
    if (!this.#reading) return;
    const value = points.at(-1)?.value ?? null;
    const { text, unit, warn } = readingText(this.#reading, value);
    setText(this.#value, text);
    setText(this.#unit, unit);
    this.classList.toggle('warn', warn);
    this.#box.classList.toggle('on', value === true);
    if (this.#reading.kind === 'number') this.#path.setAttribute('d', sparkline(points, now, HISTORY_MS, WIDTH, HEIGHT - 2));
  }
}

/** One device. */
class Card {
  element = el('section', { class: 'card' });
  #control;
  #sign = el('span', { class: 'sign', 'aria-hidden': 'true' });
  #title = el('h3');
  #head = el('header', {}, this.#sign, this.#title);
  #phase = el('p', { class: 'phase', role: 'status' });
  #tiles = el('div', { class: 'tiles' });
  #row = el('div', { class: 'row' });
  #commands = el('div', { class: 'commands' });
  #said = el('p', { class: 'said', role: 'status' });
  /** @type {Map<string, EdgeSensor>} */
  #sensors = new Map();
  /** @type {{input: HTMLInputElement, reading: string, asked: boolean | null}[]} */
  #toggles = [];
  /** @type {DeviceInfo | null} */
  #device = null;
  #key = '';

  /** @param {Control} control */
  constructor(control) {
    this.#control = control;
    this.element.append(this.#head, this.#phase, this.#tiles, this.#commands);
  }

  /** @param {DeviceInfo} device */
  set device(device) {
    this.#device = device;
    const title = titleOf(device.name, device.title);
    setText(this.#title, title);
    this.element.setAttribute('aria-label', title);
    setText(this.#phase, device.phase === 'live' ? '' : device.text || (device.phase === 'starting' ? 'Starting…' : 'Not working'));
    this.#phase.classList.toggle('lost', device.phase === 'failed' || device.phase === 'retrying');
    this.element.classList.toggle('away', device.phase !== 'live');
    const { icon, readings, commands } = device;
    const key = JSON.stringify([icon, readings, commands]);
    if (key !== this.#key) this.#build(device);
    this.#key = key;
    this.enable();
  }

  /** Whoever may only watch can switch nothing. */
  enable() {
    const off = !this.#control.operates || this.#device?.phase !== 'live';
    for (const each of this.element.querySelectorAll('.commands :is(button, input, select), header input')) /** @type {HTMLButtonElement} */ (each).disabled = off;
  }

  /** @param {DeviceInfo} device */
  #build(device) {
    this.#sign.replaceChildren(sign(device.icon));
    this.#sensors.clear();
    this.#toggles = [];
    this.#row.replaceChildren();
    this.#commands.replaceChildren(this.#row);
    for (const old of this.#head.querySelectorAll('input')) old.remove();
    /** @type {Set<string>} */
    const shown = new Set();
    for (const command of device.commands) {
      const toggle = toggleOf(device, command);
      if (toggle) {
        shown.add(toggle.reading.name);
        this.#toggle(command, toggle.field.name, toggle.reading.name);
      } else if (fieldsOf(command.arguments).length) this.#commands.append(this.#form(command));
      else this.#row.append(this.#button(command));
    }
    this.#commands.append(this.#said);
    this.#tiles.replaceChildren(
      ...device.readings.flatMap((reading) => {
        if (shown.has(reading.name)) return [];
        const sensor = /** @type {EdgeSensor} */ (document.createElement('edge-sensor'));
        sensor.reading = reading;
        this.#sensors.set(reading.name, sensor);
        return sensor;
      }),
    );
  }

  /** @param {number} now */
  show(now) {
    const name = this.#device?.name ?? '';
    for (const [reading, sensor] of this.#sensors) sensor.show(this.#control.trace(name, reading), now);
    let lit = false;
    for (const toggle of this.#toggles) {
      const value = this.#control.trace(name, toggle.reading).at(-1)?.value === true;
      if (toggle.asked === value) toggle.asked = null;
      toggle.input.checked = toggle.asked ?? value;
      lit ||= value;
    }
    this.element.classList.toggle('lit', lit);
  }

  /** @param {CommandInfo} command @param {string} argument @param {string} reading */
  #toggle(command, argument, reading) {
    const title = command.title || wordsOf(command.name);
    const input = el('input', { type: 'checkbox', role: 'switch' });
    const toggle = { input, reading, asked: /** @type {boolean | null} */ (null) };
    this.#toggles.push(toggle);
    const only = this.#toggles.length === 1;
    if (only) input.setAttribute('aria-label', title);
    input.addEventListener('change', async () => {
      toggle.asked = input.checked;
      await this.#call(command, { [argument]: input.checked });
      // Where it did not follow, it says how it is.
      setTimeout(() => (toggle.asked = null), 1500);
    });
    if (only) this.#head.append(input);
    else this.#commands.append(el('label', { class: 'field line' }, title, input));
  }

  /** @param {CommandInfo} command */
  #button(command) {
    const button = el('button', { class: 'plain', type: 'button' }, command.title || wordsOf(command.name));
    button.addEventListener('click', () => this.#ask(command, button, {}));
    return button;
  }

  /** @param {CommandInfo} command */
  #form(command) {
    const fields = fieldsOf(command.arguments);
    const title = command.title || wordsOf(command.name);
    const button = el('button', { class: 'plain', type: 'submit' }, title);
    const form = el('form', { class: 'command', 'aria-label': title }, el('h4', {}, title), ...fields.map((field) => row(field)), button);
    form.noValidate = true;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      /** @type {Record<string, string | boolean>} */
      const filled = {};
      for (const { name } of fields) {
        const input = /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
        filled[name] = input.type === 'checkbox' ? input.checked : input.value;
      }
      const read = argsOf(fields, filled);
      if ('problem' in read) {
        this.#say(read.problem, true);
        /** @type {HTMLElement} */ (form.elements.namedItem(read.field)).focus();
      } else this.#ask(command, button, read.args);
    });
    return form;
  }

  /** What is dangerous is asked twice; in its place, so that the stop button stays in reach. @param {CommandInfo} command @param {HTMLButtonElement} button @param {Record<string, unknown>} args */
  #ask(command, button, args) {
    if (!command.danger) return void this.#call(command, args, button);
    const yes = el('button', { class: 'danger', type: 'button' }, `${command.title || wordsOf(command.name)} now`);
    const no = el('button', { class: 'plain', type: 'button' }, 'Cancel');
    const sure = el('div', { class: 'sure', role: 'alertdialog', 'aria-label': 'Are you sure?' }, el('span', {}, 'Are you sure?'), no, yes);
    const back = () => {
      sure.replaceWith(button);
      button.focus();
    };
    no.addEventListener('click', back);
    yes.addEventListener('click', () => {
      back();
      void this.#call(command, args, button);
    });
    sure.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      back();
    });
    button.replaceWith(sure);
    no.focus();
  }

  /** @param {CommandInfo} command @param {Record<string, unknown>} args @param {HTMLButtonElement} [button] */
  async #call(command, args, button) {
    this.#say('');
    if (button) button.disabled = true;
    try {
      const value = await this.#control.command(this.#device?.name ?? '', command.name, args, performance.now());
      if (value !== null && value !== undefined) this.#say(typeof value === 'object' ? JSON.stringify(value) : String(value));
      else if (button) this.#say('Done.');
    } catch (error) {
      // The page speaks of the wheel.
      this.#say(/** @type {Error} */ (error).message.replace('take the lease of', 'take the wheel of'), true);
    }
    this.enable();
  }

  /** @param {string} text @param {boolean} [bad] */
  #say(text, bad = false) {
    this.#said.classList.toggle('bad', bad);
    setText(this.#said, text);
  }
}

/** @param {Field} field */
function row(field) {
  const { name, kind } = field;
  const hint = field.hint ? el('small', {}, field.hint) : '';
  if (kind === 'switch') {
    const input = el('input', { type: 'checkbox', role: 'switch', name, checked: field.value === true });
    return el('label', { class: 'field line' }, el('span', {}, field.title, hint), input);
  }
  if (kind === 'select') {
    const select = el('select', { name }, ...(field.required ? [] : [el('option', { value: '' }, '–')]));
    field.options.forEach(({ label, value }, i) => select.append(el('option', { value: String(i), selected: value === field.value }, label)));
    return el('label', { class: 'field' }, field.title, hint, select);
  }
  const type = kind === 'slider' ? 'range' : kind === 'number' ? 'number' : 'text';
  const input = el('input', { type, name, autocomplete: 'off' });
  if (field.minimum !== null) input.min = String(field.minimum);
  if (field.maximum !== null) input.max = String(field.maximum);
  if (type !== 'text') input.step = field.step === null ? 'any' : String(field.step);
  if (field.longest) input.maxLength = field.longest;
  input.value = field.value === null ? '' : String(field.value);
  if (kind !== 'slider') return el('label', { class: 'field' }, field.title, hint, input);
  // A label names the first that it may name in it, and an output is one of those.
  const output = el('output', { 'aria-hidden': 'true' }, input.value);
  input.setAttribute('aria-label', field.title);
  input.addEventListener('input', () => setText(output, input.value));
  return el('label', { class: 'field' }, el('span', { class: 'caption' }, field.title, output), hint, input);
}

export class EdgeDevices extends HTMLElement {
  /** @type {Control | null} */
  #control = null;
  #end = () => {};
  #note = el('div', { class: 'note', hidden: true });
  #alarms = el('div', { class: 'alarms', role: 'status' });
  #cards = el('div', { class: 'cards' });
  /** @type {Map<string, Card>} */
  #byName = new Map();
  #timer = 0;
  #said = '';

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [base, forms, style];
    root.append(this.#note, this.#alarms, this.#cards);
  }

  /** @param {Control} control */
  set control(control) {
    this.#control = control;
    if (this.isConnected) this.connectedCallback();
  }

  connectedCallback() {
    this.disconnectedCallback();
    const control = this.#control;
    if (!control) return;
    const ends = [control.store.subscribe(() => this.#changed()), control.pulse.subscribe(() => this.#show())];
    // Sparklines move on, also while nothing is told.
    this.#timer = window.setInterval(() => this.#show(), 1000);
    this.#end = () => ends.forEach((end) => end());
    this.#changed();
  }

  disconnectedCallback() {
    this.#end();
    clearInterval(this.#timer);
  }

  #changed() {
    const control = this.#control;
    if (!control) return;
    const { open, told, devices, alarms } = control.store.state;
    for (const [name, card] of this.#byName) {
      if (devices.some((device) => device.name === name)) continue;
      card.element.remove();
      this.#byName.delete(name);
    }
    devices.forEach((device, i) => {
      const card = this.#byName.get(device.name) ?? new Card(control);
      this.#byName.set(device.name, card);
      card.device = device;
      if (this.#cards.children[i] !== card.element) this.#cards.insertBefore(card.element, this.#cards.children[i] ?? null);
    });
    const stopped = control.store.state.groups.find((group) => group.state === 'stopped');
    this.#alarms.replaceChildren(...(stopped ? [this.#stopped(stopped, control)] : []), ...alarms.map((alarm) => el('p', { class: `alarm ${alarm.level}` }, alarm.text)));
    this.#say(!open || !told ? 'wait' : !devices.length ? 'none' : control.operates ? '' : 'watch');
    this.#show();
  }

  /** @param {import('./wire.js').Group} group @param {Control} control */
  #stopped(group, control) {
    const row = el('div', { class: 'alarm danger' }, el('span', {}, 'Everything that moves is stopped.'));
    if (!control.operates) return row;
    const button = el('button', { class: 'plain', type: 'button' }, 'Release the stop');
    button.addEventListener('click', () => control.reset(performance.now()).catch((error) => setText(/** @type {Element} */ (row.firstChild), error.message)));
    row.append(button);
    row.title = reason(group);
    return row;
  }

  /** @param {'wait' | 'none' | 'watch' | ''} what */
  #say(what) {
    if (what === this.#said) return;
    this.#said = what;
    this.#note.hidden = !what;
    const text = { wait: 'Connecting to the devices…', none: 'There are no devices.', watch: 'You may watch. To switch and drive, sign in.', '': '' }[what];
    this.#note.replaceChildren(el('p', { role: 'status' }, text));
    if (what !== 'watch') return;
    const button = el('button', { class: 'plain', type: 'button' }, 'Sign in');
    button.addEventListener('click', () => {
      if (!this.#control) return;
      const { form, focus } = tokenForm(this.#control, () => {});
      this.#note.replaceChildren(form);
      focus();
    });
    this.#note.append(button);
  }

  #show() {
    const now = performance.now();
    for (const card of this.#byName.values()) card.show(now);
  }
}

customElements.define('edge-sensor', EdgeSensor);
customElements.define('edge-devices', EdgeDevices);
