// @ts-check
/** What lies over the picture of one who drives: sticks for thumbs, sliders for what no stick steers, and the gauge. */
import { el, setText } from './dom.js';
import { wordsOf } from './fields.js';
import { outline } from './icons.js';
import { stick } from './inputs.js';
import { titleOf } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

/** A stick that comes to where a thumb is put down. */
export class Stick {
  x = 0;
  y = 0;
  zone;
  /** Of its x and its y; null where it steers nothing. @type {[import('./control.js').Role, import('./control.js').Role] | null} */
  #roles = null;
  #knob = el('span', { class: 'knob' });
  #glyph = el('span', { class: 'glyph' });
  #ring = el('div', { class: 'stick' });
  #pointer = -1;
  #middle = { x: 0, y: 0 };
  #moved;

  /** @param {'left' | 'right'} side @param {() => void} moved */
  constructor(side, moved) {
    this.#moved = moved;
    const arrows = outline('M12 2.6 10.9 4h2.200zM12 21.4 10.9 20h2.200zM2.6 12 4 10.900v2.200zM21.4 12 20 10.900v2.200z');
    arrows.setAttribute('fill', 'currentColor');
    arrows.setAttribute('stroke-width', '.5');
    this.#ring.append(arrows, this.#knob, this.#glyph);
    this.zone = el('div', { class: `zone ${side}`, 'aria-hidden': 'true' }, this.#ring);
    this.zone.addEventListener('pointerdown', (event) => this.#down(event));
    this.zone.addEventListener('pointermove', (event) => this.#move(event));
    for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
      this.zone.addEventListener(end, (event) => /** @type {PointerEvent} */ (event).pointerId === this.#pointer && this.#let());
    }
  }

  get roles() {
    return this.#roles;
  }

  set roles(roles) {
    this.#roles = roles;
    this.zone.classList.toggle('on', roles !== null);
    setText(this.#glyph, roles?.includes('pan') ? 'Look' : 'Drive');
    this.drop();
  }

  /** Let go without telling. */
  drop() {
    this.#pointer = -1;
    this.x = this.y = 0;
    this.#ring.classList.remove('held');
    this.#ring.style.left = this.#ring.style.top = this.#ring.style.right = this.#ring.style.bottom = '';
    this.#knob.style.transform = '';
  }

  #let() {
    this.drop();
    this.#moved();
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (this.#pointer !== -1 || event.button !== 0) return;
    event.preventDefault();
    this.#pointer = event.pointerId;
    try {
      this.zone.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that is gone already.
    }
    const box = this.zone.getBoundingClientRect();
    const half = this.#ring.offsetWidth / 2;
    // Near an edge the ring stays whole, and its middle is where it is drawn.
    this.#middle = {
      x: Math.max(box.left + half + 4, Math.min(box.right - half - 4, event.clientX)),
      y: Math.max(box.top + half + 4, Math.min(box.bottom - half - 4, event.clientY)),
    };
    this.#ring.classList.add('held');
    Object.assign(this.#ring.style, { left: `${this.#middle.x - box.left - half}px`, top: `${this.#middle.y - box.top - half}px`, right: 'auto', bottom: 'auto' });
    this.#move(event);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const { x, y, knobX, knobY } = stick(event.clientX - this.#middle.x, event.clientY - this.#middle.y, this.#ring.offsetWidth * 0.42);
    [this.x, this.y] = [x, y];
    this.#knob.style.transform = `translate(${knobX.toFixed(1)}px, ${knobY.toFixed(1)}px)`;
    this.#moved();
  }
}

/**
 * A slider for an axis that no stick steers. A place stays where it is put; a speed lasts while the slider is held, and springs back.
 *
 * @typedef {object} Lever
 * @property {string} device
 * @property {import('./wire.js').AxisInfo} axis
 * @property {HTMLInputElement} input
 * @property {HTMLElement} told
 * @property {'' | 'pointer' | 'key'} held by what
 */

const LEVER_KEYS = new Set(['ArrowUp', 'ArrowDown', 'ArrowLeft', 'ArrowRight', 'Home', 'End', 'PageUp', 'PageDown']);

export class Levers {
  element = el('div', { class: 'levers', role: 'group', 'aria-label': 'What else moves', hidden: true });
  /** @type {Lever[]} */
  #all = [];
  /** @type {import('./control.js').Wheel | null} */
  #wheel = null;
  #key = '';
  #armed = false;
  #moved;

  /** @param {() => void} moved */
  constructor(moved) {
    this.#moved = moved;
  }

  /** @param {import('./control.js').Wheel | null} wheel of one who holds it @param {boolean} armed */
  show(wheel, armed) {
    this.#armed = armed;
    const devices = wheel?.devices ?? [];
    const axes = devices.flatMap(({ name, title, axes }) => axes.flatMap((axis) => (axis.role === 'other' ? { device: name, title, axis } : [])));
    const key = JSON.stringify(axes);
    if (wheel === this.#wheel && key === this.#key) return;
    this.drop();
    this.#wheel = wheel;
    this.#key = key;
    this.#all = axes.map(({ device, axis }) => this.#lever(device, axis));
    const several = new Set(axes.map((each) => each.device)).size > 1;
    this.element.replaceChildren(
      ...this.#all.map(({ axis, input, told }, i) => {
        const title = (several ? `${titleOf(axes[i].device, axes[i].title)}: ` : '') + (axis.title || wordsOf(axis.name));
        input.setAttribute('aria-label', axis.position ? title : `${title}, while held`);
        return el('label', {}, el('span', {}, title), told, input);
      }),
    );
    this.element.hidden = !axes.length;
    for (const lever of this.#all) this.#let(lever);
  }

  /** All speeds spring back, whatever still lies on their sliders. */
  drop() {
    for (const lever of this.#all) this.#let(lever);
  }

  /** Whether a key is for the slider that has the focus. @param {KeyboardEvent} event */
  takes(event) {
    const lever = this.#all.find(({ input }) => input === event.composedPath()[0]);
    if (!lever || !LEVER_KEYS.has(event.code)) return false;
    lever.held = 'key';
    return true;
  }

  /** @param {string} device @param {import('./wire.js').AxisInfo} axis @returns {Lever} */
  #lever(device, axis) {
    const { minimum, maximum, position } = axis;
    const step = (maximum - minimum) / (position ? 100 : 40);
    const input = el('input', { type: 'range', min: String(minimum), max: String(maximum), step: String(step) });
    /** @type {Lever} */
    const lever = { device, axis, input, told: el('b', { 'aria-hidden': 'true' }), held: '' };
    input.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      lever.held = 'pointer';
      // Else a mouse that is let go elsewhere would not be heard of.
      input.setPointerCapture(event.pointerId);
    });
    input.addEventListener('input', () => this.#push(lever));
    // A release is told in several ways, and none is too many for what moves while it is held.
    for (const [by, types] of Object.entries({ pointer: ['change', 'pointerup', 'pointercancel', 'lostpointercapture', 'blur'], key: ['keyup', 'blur'] })) {
      for (const type of types) input.addEventListener(type, () => lever.held === by && this.#let(lever));
    }
    return lever;
  }

  /** @param {Lever} lever */
  #push(lever) {
    const { device, axis, input, told, held } = lever;
    // What was held before it could move has to be let go first.
    if (!held || !this.#armed) return this.#let(lever);
    setText(told, valueOf(axis, input.valueAsNumber));
    this.#wheel?.put(device, axis, input.valueAsNumber);
    this.#moved();
  }

  /** @param {Lever} lever */
  #let(lever) {
    const { device, axis, input, told, held } = lever;
    lever.held = '';
    // From here on, arrow keys drive again.
    if (held === 'pointer') input.blur();
    const place = axis.position ? (this.#wheel?.placeOf(device, axis) ?? null) : axis.neutral;
    input.value = String(place ?? axis.neutral);
    setText(told, place === null ? '–' : valueOf(axis, place));
    if (axis.position) return;
    this.#wheel?.put(device, axis, axis.neutral);
    this.#moved();
  }
}

/** @param {import('./wire.js').AxisInfo} axis @param {number} value */
function valueOf({ minimum, maximum, unit }, value) {
  return unit ? `${value.toFixed(maximum - minimum < 20 ? 2 : 0)} ${unit}` : `${Math.round(value * 100)} %`;
}

/** Steering as an arc, the pedal as a bar, and the speed in figures. */
export class Gauge {
  #turned = document.createElementNS(SVG, 'path');
  #mark = document.createElementNS(SVG, 'circle');
  #pushed = document.createElementNS(SVG, 'rect');
  #number = el('b', {}, '0');
  #unit = el('span', {}, '%');
  element;
  #key = '';

  constructor() {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 236 92');
    const way = document.createElementNS(SVG, 'path');
    way.setAttribute('class', 'way');
    way.setAttribute('d', arc(-1, 1));
    this.#turned.setAttribute('class', 'turned');
    this.#mark.setAttribute('class', 'mark');
    this.#mark.setAttribute('r', '6');
    const track = document.createElementNS(SVG, 'rect');
    for (const [rect, name] of /** @type {const} */ ([[track, 'push'], [this.#pushed, 'pushed']])) {
      rect.setAttribute('class', name);
      for (const [key, value] of Object.entries({ x: '22', y: '42', width: '5', height: '44', rx: '2.5' })) rect.setAttribute(key, value);
    }
    svg.append(way, this.#turned, this.#mark, track, this.#pushed);
    this.element = el('div', { class: 'gauge', 'aria-hidden': 'true', hidden: true }, svg, el('div', { class: 'speed' }, this.#number, this.#unit));
    this.show(0, 0, null);
  }

  /** @param {number} throttle @param {number} steer @param {{text: string, unit: string} | null} speed as measured */
  show(throttle, steer, speed) {
    const text = speed?.text ?? String(Math.round(Math.abs(throttle) * 100));
    const key = `${throttle.toFixed(2)} ${steer.toFixed(2)} ${text}`;
    if (key === this.#key) return;
    this.#key = key;
    setText(this.#number, text);
    setText(this.#unit, speed?.unit ?? '%');
    this.#turned.setAttribute('d', steer ? arc(Math.min(0, steer), Math.max(0, steer)) : 'M0 0');
    const [x, y] = onArc(steer);
    this.#mark.setAttribute('cx', x.toFixed(1));
    this.#mark.setAttribute('cy', y.toFixed(1));
    const height = 22 * Math.abs(throttle);
    this.#pushed.setAttribute('y', String(throttle > 0 ? 64 - height : 64));
    this.#pushed.setAttribute('height', String(height));
  }
}

/** @param {number} share @returns {[number, number]} */
function onArc(share) {
  const angle = share * 0.62;
  return [118 + 176 * Math.sin(angle), 192 - 176 * Math.cos(angle)];
}

/** @param {number} from @param {number} to */
function arc(from, to) {
  const [[x0, y0], [x1, y1]] = [onArc(from), onArc(to)];
  return `M${x0.toFixed(1)} ${y0.toFixed(1)}A176 176 0 0 1 ${x1.toFixed(1)} ${y1.toFixed(1)}`;
}
