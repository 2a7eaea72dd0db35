// @ts-check
/**
 * An agent with a rover, as far as the page knows it: it answers at once and keeps the rules of who may drive. Several viewers may be
 * connected; what it sends them goes straight to their `Control`.
 */
import { Control } from '../../../edgeagent/web/control.js';

/** @param {Partial<import('../../../edgeagent/web/wire.js').AxisInfo> & {name: string}} axis */
const axis = (axis) => ({ title: '', minimum: -1, maximum: 1, neutral: 0, unit: '', role: /** @type {const} */ ('other'), position: false, ...axis });
/** @param {Partial<import('../../../edgeagent/web/wire.js').ReadingInfo> & {name: string}} reading */
const reading = (reading) => ({ title: '', kind: /** @type {const} */ ('number'), unit: '', digits: 1, dead_band: 0, ...reading });
/** @param {Partial<import('../../../edgeagent/web/wire.js').DeviceInfo> & {name: string}} device */
const device = (device) => ({ title: '', icon: '', moves: false, group: '', phase: /** @type {const} */ ('live'), text: '', axes: [], readings: [], commands: [], ...device });

export const ROVER = device({
  name: 'rover',
  title: 'Rover',
  icon: 'rover',
  moves: true,
  group: 'drive',
  axes: [
    axis({ name: 'throttle', role: 'throttle' }),
    axis({ name: 'steer', role: 'steer' }),
    axis({ name: 'pan', role: 'pan', minimum: -90, maximum: 90, unit: '°', position: true }),
    axis({ name: 'tilt', role: 'tilt', minimum: -30, maximum: 45, unit: '°', position: true }),
  ],
  readings: [
    reading({ name: 'speed', title: 'Speed', unit: 'm/s', digits: 2, maximum: 1.2 }),
    reading({ name: 'battery', title: 'Battery', unit: '%', digits: 0, minimum: 0, maximum: 100, warn_below: 20 }),
    reading({ name: 'bumped', title: 'Bumped', kind: 'flag' }),
    reading({ name: 'pan', title: 'Pan', unit: '°', digits: 0 }),
  ],
  commands: [{ name: 'home', title: 'Back to the start', danger: true, arguments: {} }],
});

export const LAMP = device({
  name: 'lamp',
  title: 'Head lamp',
  icon: 'light',
  readings: [reading({ name: 'on', title: 'On', kind: 'flag' })],
  commands: [
    { name: 'switch', title: 'Switch', danger: false, arguments: { type: 'object', properties: { on: { type: 'boolean' } }, required: ['on'] } },
    {
      name: 'blink',
      title: 'Blink',
      danger: false,
      arguments: {
        type: 'object',
        properties: {
          times: { type: 'integer', minimum: 1, maximum: 20, default: 3 },
          pattern: { enum: ['slow', 'fast', 'heartbeat'], default: 'fast', type: 'string' },
        },
      },
    },
  ],
});

export const AIR = device({
  name: 'air',
  title: 'Living room',
  icon: 'temperature',
  readings: [
    reading({ name: 'temperature', title: 'Temperature', unit: '°C', warn_above: 30 }),
    reading({ name: 'humidity', title: 'Humidity', unit: '%', digits: 0 }),
    reading({ name: 'pressure', title: 'Pressure', unit: 'hPa', digits: 0 }),
    reading({ name: 'quality', title: 'Air', kind: 'text' }),
  ],
});

/** @typedef {{name: string, control: Control, rights: string[], open: boolean}} Viewer */

export class FakeAgent {
  now = 1000;
  /** @type {any[]} set-points that moved something */
  moved = [];
  /** @type {any[]} everything that was sent, `viewer` beside it */
  heard = [];
  /** @type {Map<string, Viewer>} */
  viewers = new Map();
  /** Whether it answers at all. */
  deaf = false;
  /** Answer to set-points as if the picture were too old, or they came late. */
  objection = '';
  lamp = false;
  /** @type {any} */
  values = { rover: { speed: 0, battery: 76, bumped: false }, lamp: { on: false }, air: { temperature: 21.4, humidity: 48, pressure: 1013, quality: 'good' } };
  #leases = 0;
  /** @type {any} */
  group = { holder: '', lease: 0, state: 'free', why: '', text: '', queue: /** @type {string[]} */ ([]) };

  /** @param {{devices?: any[]}} [options] */
  constructor({ devices = [ROVER, LAMP, AIR] } = {}) {
    this.devices = devices;
  }

  /** @param {string} name @param {...string} rights */
  viewer(name, ...rights) {
    /** @type {Viewer} */
    const viewer = {
      name,
      rights: ['watch', ...rights],
      open: true,
      control: new Control((channel, text) => {
        if (!viewer.open) return false;
        this.take(viewer, channel, JSON.parse(text));
        return true;
      }),
    };
    this.viewers.set(name, viewer);
    this.greet(viewer);
    return viewer;
  }

  /** @param {Viewer} viewer */
  greet(viewer) {
    viewer.open = true;
    viewer.control.opened();
    this.tell(viewer, { t: 'devices', you: viewer.name, name: viewer.name, rights: viewer.rights, devices: this.devices, gone: [] });
    this.tell(viewer, this.#groupFor(viewer));
    this.read();
  }

  /** The channels of a viewer close. @param {Viewer} viewer */
  cut(viewer) {
    viewer.open = false;
    viewer.control.closed();
    if (this.group.holder === viewer.name) this.#free('lease');
  }

  /** @param {Viewer} viewer @param {any} message */
  tell(viewer, message) {
    if (viewer.open) viewer.control.message(JSON.stringify(message), this.now);
  }

  /** @param {Record<string, unknown>} [patch] */
  tellGroup(patch = {}) {
    Object.assign(this.group, patch);
    for (const viewer of this.viewers.values()) this.tell(viewer, this.#groupFor(viewer));
  }

  read() {
    for (const viewer of this.viewers.values()) this.tell(viewer, { t: 'readings', at: 0, values: this.values });
  }

  /** @param {Viewer} viewer */
  #groupFor(viewer) {
    const { holder, lease, state, why, text, queue } = this.group;
    const mine = holder !== '' && holder === viewer.name;
    const waiting = queue.map((/** @type {string} */ each) => ({ viewer: each, name: each }));
    return { t: 'group', group: 'drive', title: '', holder: holder || null, holder_name: holder, lease: mine ? lease : null, state, why, text, queue: waiting, expiry_ms: 300, max_age_ms: 1000 };
  }

  /** @param {string} why */
  #free(why) {
    const next = this.group.queue.shift();
    if (next) this.#give(next);
    else this.tellGroup({ holder: '', lease: 0, state: this.group.state === 'stopped' ? 'stopped' : 'free', why });
  }

  /** @param {string} name */
  #give(name) {
    this.group.queue = this.group.queue.filter((/** @type {string} */ each) => each !== name);
    this.tellGroup({ holder: name, lease: ++this.#leases, state: this.group.state === 'stopped' ? 'stopped' : 'disarmed', why: '', text: '' });
  }

  /** @param {Viewer} viewer @param {string} channel @param {any} message */
  take(viewer, channel, message) {
    this.heard.push({ viewer: viewer.name, channel, ...message });
    if (this.deaf) return;
    const done = (/** @type {unknown} */ value = null) => this.tell(viewer, { t: 'result', id: message.id, value });
    const refuse = (/** @type {number} */ code, /** @type {string} */ text) => this.tell(viewer, { t: 'refused', id: message.id, code, message: text });
    const operates = viewer.rights.includes('operate') || viewer.rights.includes('admin');
    const { group } = this;
    switch (message.t) {
      case 'set': {
        // A sign of life.
        if (!Object.keys(message.values).length) break;
        const axes = Object.values(message.values).flatMap((each) => Object.values(/** @type {any} */ (each)));
        if (group.holder === viewer.name && group.state === 'disarmed' && axes.every((value) => value === 0) && !this.objection) this.tellGroup({ state: 'armed', why: '', text: '' });
        const taken = group.holder === viewer.name && group.state === 'armed' && !this.objection;
        if (taken) this.moved.push(message);
        this.tell(viewer, { t: 'ack', group: 'drive', lease: message.lease, seq: message.seq, at: message.at, taken, why: taken ? '' : this.objection || 'disarmed', late_ms: 1, age_ms: 60 });
        break;
      }
      case 'sign_in':
        if (message.token !== 'a token of sixteen') return refuse(403, 'That token is not right.');
        viewer.rights = ['watch', 'operate'];
        done();
        this.tell(viewer, { t: 'devices', you: viewer.name, name: 'anna', rights: viewer.rights, devices: [], gone: [] });
        break;
      case 'lease':
        if (!operates) return refuse(403, 'You may only watch. Sign in to drive.');
        if (message.do === 'request') {
          if (group.holder) this.tellGroup({ queue: [...group.queue, viewer.name] });
          else this.#give(viewer.name);
          done(group.holder === viewer.name ? 'yours' : 'waiting');
        } else if (message.do === 'cancel') {
          this.tellGroup({ queue: group.queue.filter((/** @type {string} */ each) => each !== viewer.name) });
          done();
        } else if (message.do === 'release') {
          if (group.holder === viewer.name) this.#free('lease');
          done();
        } else if (message.do === 'take') {
          if (!viewer.rights.includes('admin')) return refuse(403, 'Only an admin may take over.');
          this.#give(viewer.name);
          done('yours');
        } else {
          this.#give(message.to);
          done();
        }
        break;
      case 'halt':
        if (group.holder === viewer.name && group.state === 'armed') this.tellGroup({ state: 'disarmed', why: message.why });
        done();
        break;
      case 'stop':
        this.tellGroup({ state: 'stopped', why: 'stop', text: `${viewer.name} pressed stop.` });
        done();
        break;
      case 'reset':
        if (!operates) return refuse(403, 'An operator has to release it.');
        this.tellGroup({ state: group.holder ? 'disarmed' : 'free', why: '', text: '' });
        done();
        break;
      case 'command':
        if (!operates) return refuse(403, 'You may only watch.');
        if (message.command === 'switch') {
          this.values.lamp.on = message.args.on;
          this.read();
        }
        done(message.command === 'home' ? 'It is on its way.' : null);
        break;
    }
  }
}
