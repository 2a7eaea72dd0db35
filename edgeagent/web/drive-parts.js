// @ts-check
/** What lies over the picture of one who drives: sticks for thumbs, and the gauge. */
import { el, setText } from './dom.js';
import { outline } from './icons.js';
import { stick } from './inputs.js';

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
