// @ts-check
/**
 * The devices of an agent, as decisions only: what is known of them, requests and their answers, and the set-points of one who
 * drives. Time is an argument (ms, monotonic) and `send` is given, so Node's tests run it in virtual time.
 *
 * | The wheel of a group is | it means                                                        | it sends                             |
 * |-------------------------|-----------------------------------------------------------------|--------------------------------------|
 * | off                     | no lease                                                        | nothing                              |
 * | disarmed                | a lease, and the agent waits for a neutral set-point            | what the hands do, 50 times a second |
 * | armed                   | set-points move it                                              | the same                             |
 * | frozen                  | a lease, but the picture stands still: said once, then silence  | nothing, and so it stands still      |
 * | starting                | a lease that has never had a picture, which may take a while    | a sign of life now and then          |
 *
 * @typedef {import('./wire.js').Ack} Ack
 * @typedef {import('./wire.js').Alarm} Alarm
 * @typedef {import('./wire.js').AxisInfo} AxisInfo
 * @typedef {import('./wire.js').DeviceInfo} DeviceInfo
 * @typedef {import('./wire.js').ControlFromAgent} ControlFromAgent
 * @typedef {import('./wire.js').Group} Group
 *
 * @typedef {object} ControlState
 * @property {boolean} open whether the agent can be asked
 * @property {boolean} told whether it has said what it has
 * @property {string} you this viewer's name in a group
 * @property {string} name of the person, '' for a ticket
 * @property {readonly string[]} rights
 * @property {readonly DeviceInfo[]} devices
 * @property {readonly Group[]} groups
 * @property {readonly Alarm[]} alarms those that are on
 *
 * @typedef {{at: number, value: number | boolean | string}} Point of a reading, `at` on the page's clock
 * @typedef {object} Put where set-points have put an axis that holds a place
 * @property {number} at when it was last sent
 * @property {{at: number, value: number}[]} way since when it was put where, in the axis' own unit: the last second of it
 * @typedef {'throttle' | 'steer' | 'pan' | 'tilt'} Role
 * @typedef {Record<Role, number>} Hands what sticks, keys and pads want, -1 to 1; right, forward and up are positive
 * @typedef {{rtp: number | null, mid: string, at: number}} Shown the frame on the screen, and since when
 */
import { Store } from './store.js';

/** Between two set-points. */
export const PERIOD_MS = 20;
/** A picture that stands still for so long is no picture to drive by. */
export const FROZEN_MS = 500;
/** So long a lease is kept while there is no first picture: a camera may take its time to start. */
const STARTING_MS = 30_000;
/** The agent takes a lease back from one who is silent; the first sign comes when it asks for a picture already. */
const LIFE_MS = 2500;
/** How long an answer is waited for. */
const ANSWER_MS = 5000;
/** While set-points leave and none is answered for so long, the link is said to be silent. */
const SILENT_MS = 600;
/** What a sparkline shows. */
export const HISTORY_MS = 60_000;
const HISTORY = 240;
/** Ends of a servo's way are apart by so many seconds with the stick at its end. */
const SWEEP_S = 1.6;
/** A reading that comes may have been read so long before. */
const LATE_MS = 500;
/** A reading that differs by less, in shares of the axis' range, tells of the same place. */
const LITTLE = 0.02;
/** One that lies further beyond its axis is no place; the keeper has the same bound. */
const BEYOND = 0.05;
const ACKS = 50;
const RECENT_MS = 2000;

/** The agent said no, or nothing. */
export class Refusal extends Error {
  /** @param {number} code as HTTP's; 0 where the connection was lost @param {string} message a sentence for a person */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Control {
  /** @type {Store<ControlState>} */
  store = new Store(/** @type {ControlState} */ ({ open: false, told: false, you: '', name: '', rights: [], devices: [], groups: [], alarms: [] }));
  /** Told when readings have come. */
  pulse = new Store({ count: 0 });
  /** Called for each answer to a set-point. @type {(ack: Ack, now: number) => void} */
  onack = () => {};
  /** Called with each device that is told to do something. @type {(device: string, now: number) => void} */
  oncommand = () => {};
  /** What the person typed in to operate, for the next connection; '' before. */
  token = '';
  #send;
  /** @type {Map<number, {until: number, resolve: (value: any) => void, reject: (refusal: Refusal) => void}>} */
  #waiting = new Map();
  #ids = 0;
  /** How many emergency stops wait for their answer. */
  stopping = 0;
  /** Whether the devices told next begin a new list. */
  #fresh = true;
  /** @type {Map<string, Point[]>} by `device.reading`, oldest first */
  #traces = new Map();
  /** @type {Map<string, Map<string, Point['value']>>} the newest of each device since it was told not to work */
  #values = new Map();

  /** @param {(channel: 'control' | 'events', text: string) => boolean} send whether the channel took it */
  constructor(send) {
    this.#send = send;
  }

  opened() {
    this.#fresh = true;
    this.#values.clear();
    this.store.set({ open: true, told: false, you: '', name: '', rights: [], groups: [], alarms: [] });
  }

  closed() {
    this.store.set({ open: false, told: false, groups: [], alarms: [] });
    for (const { reject } of [...this.#waiting.values()]) reject(new Refusal(0, 'The connection was lost.'));
    this.#waiting.clear();
  }

  /** @param {string} text as it came over any of the channels @param {number} now */
  message(text, now) {
    /** @type {any} */
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message === null || typeof message !== 'object') return;
    if (message.t === 'ack') this.onack(message, now);
    else if (message.t === 'readings') this.#readings(message.values ?? {}, now);
    else this.#event(message);
  }

  /** @param {ControlFromAgent} message */
  #event(message) {
    switch (message.t) {
      case 'devices': {
        const { you, name, rights, devices, gone } = message;
        const before = this.#fresh ? [] : this.store.state.devices;
        const changed = new Map(devices.map((device) => [device.name, device]));
        const kept = before.filter((device) => !(gone ?? []).includes(device.name)).map((device) => changed.get(device.name) ?? device);
        const known = new Set(kept.map((device) => device.name));
        this.#fresh = false;
        for (const { name, phase } of devices) if (phase !== 'live') this.#values.delete(name);
        this.store.set({ told: true, you, name: name ?? '', rights, devices: [...kept, ...devices.filter((device) => !known.has(device.name))] });
        break;
      }
      case 'group':
        this.store.set({ groups: [...this.store.state.groups.filter((each) => each.group !== message.group), message].sort((a, b) => (a.group < b.group ? -1 : 1)) });
        break;
      case 'alarm': {
        const others = this.store.state.alarms.filter((each) => each.device !== message.device || each.key !== message.key);
        this.store.set({ alarms: message.on === false ? others : [...others, message] });
        break;
      }
      case 'result':
        this.#answered(message.id)?.resolve(message.value);
        break;
      case 'refused':
        if (typeof message.id === 'number') this.#answered(message.id)?.reject(new Refusal(message.code, message.message));
        break;
    }
  }

  /** @param {number} id */
  #answered(id) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  /** @param {Record<string, Record<string, Point['value']>>} values @param {number} now */
  #readings(values, now) {
    for (const [device, readings] of Object.entries(values)) {
      // One that works again may be read before that is told.
      const newest = this.#values.get(device) ?? new Map();
      this.#values.set(device, newest);
      for (const [name, value] of Object.entries(readings)) {
        const key = `${device}.${name}`;
        newest.set(name, value);
        const trace = this.#traces.get(key) ?? [];
        // Points that come fast would only be drawn over each other.
        if (trace.length > 1 && trace[trace.length - 1].at - trace[trace.length - 2].at < HISTORY_MS / HISTORY) trace.pop();
        trace.push({ at: now, value });
        while (trace.length > HISTORY || (trace.length > 1 && trace[1].at < now - HISTORY_MS)) trace.shift();
        this.#traces.set(key, trace);
      }
    }
    this.pulse.set({ count: this.pulse.state.count + 1 });
  }

  /** @param {string} device @param {string} reading @returns {readonly Point[]} of the last minute, oldest first */
  trace(device, reading) {
    return this.#traces.get(`${device}.${reading}`) ?? [];
  }

  /** @param {string} device @param {string} reading @returns {Point['value'] | null} the newest; null where the device does not work */
  value(device, reading) {
    const live = this.store.state.devices.some(({ name, phase }) => name === device && phase === 'live');
    return live ? (this.#values.get(device)?.get(reading) ?? null) : null;
  }

  /** @param {string} group */
  group(group) {
    return this.store.state.groups.find((each) => each.group === group) ?? null;
  }

  /** Groups that have something to steer. @returns {string[]} */
  get drivable() {
    return [...new Set(this.store.state.devices.flatMap((device) => (device.moves && device.group && device.axes.length ? [device.group] : [])))].sort();
  }

  /** @param {string} right */
  may(right) {
    return this.store.state.rights.includes(right);
  }

  /** Whether one may switch, drive and reset. */
  get operates() {
    return this.may('operate') || this.may('admin');
  }

  // ------------------------------------------------------------------ requests; each promise fails with a Refusal only

  /**
   * @param {Record<string, unknown>} message without its number
   * @param {number} now
   * @returns {Promise<any>} what the agent answered
   */
  request(message, now) {
    return new Promise((resolve, reject) => {
      const id = ++this.#ids;
      this.#waiting.set(id, { until: now + ANSWER_MS, resolve, reject });
      if (this.#send('events', JSON.stringify({ ...message, id }))) return;
      this.#waiting.delete(id);
      reject(new Refusal(0, 'There is no connection at the moment.'));
    });
  }

  /** @param {string} token @param {number} now @param {{keep?: boolean}} [how] `keep`: it serves the next connection as well */
  async signIn(token, now, { keep = false } = {}) {
    try {
      await this.request({ t: 'sign_in', token }, now);
    } catch (error) {
      // It was changed meanwhile.
      if (token === this.token && error instanceof Refusal && error.code === 401) this.token = '';
      throw error;
    }
    if (keep) this.token = token;
  }

  /** @param {string} group @param {'request' | 'cancel' | 'release' | 'take' | 'hand'} what @param {number} now @param {string} [to] */
  lease(group, what, now, to) {
    return this.request({ t: 'lease', group, do: what, ...(to ? { to } : {}) }, now);
  }

  /** @param {string} group @param {'hidden' | 'gamepad' | 'picture' | 'person'} why @param {number} now */
  halt(group, why, now) {
    return this.request({ t: 'halt', group, why }, now);
  }

  /**
   * Until the agent has answered no set-point is sent: where the word is lost on its way, silence stops it all the same.
   * @param {number} now
   */
  stop(now) {
    this.stopping += 1;
    return this.request({ t: 'stop' }, now).finally(() => (this.stopping -= 1));
  }

  /** @param {number} now */
  reset(now) {
    return this.request({ t: 'reset' }, now);
  }

  /** @param {string} device @param {string} command @param {Record<string, unknown>} args @param {number} now */
  command(device, command, args, now) {
    this.oncommand(device, now);
    return this.request({ t: 'command', device, command, args }, now);
  }

  /** @param {import('./wire.js').SetPoint} point @returns {boolean} whether it left */
  set(point) {
    return this.#send('control', JSON.stringify(point));
  }

  /** Give up on answers that are overdue. @param {number} now */
  tick(now) {
    for (const [id, { until, reject }] of [...this.#waiting]) {
      if (now < until) continue;
      this.#waiting.delete(id);
      reject(new Refusal(0, 'The agent did not answer.'));
    }
  }
}

/** The hands of one who drives a group. */
export class Wheel {
  control;
  group;
  /** @type {Hands} */
  hands = { throttle: 0, steer: 0, pan: 0, tilt: 0 };
  /** Speeds that no stick steers, by `device.axis`; neutral where one is left out. @type {Record<string, number>} */
  #others = {};
  /** The frame on the screen; null before the first one. @type {Shown | null} */
  shown = null;
  /** Whether it is driven by a picture: without one nothing is sent. */
  seeing = true;
  /** A picture that is older than this stands still, ms. */
  patience = FROZEN_MS;
  frozen = false;
  /** Nobody looks at the page: nothing is sent. */
  hidden = false;
  /** Whether the lease is asked for again when it was lost with the connection. */
  keen = false;
  #lease = 0;
  #seq = 0;
  #sentAt = -Infinity;
  #since = 0;
  /** Whether this lease has never had a picture. */
  #starting = false;
  /** @type {Record<string, number>} places that set-points name, by `device.axis`, in the axis' own unit */
  #held = {};
  /** @type {Map<string, Put>} where they were put last, whatever has stopped since: from there the stick goes on */
  #places = new Map();
  /** The lease under which they were put. */
  #putBy = 0;
  /** @type {{at: number, rtt: number, late: number, age: number | null}[]} */
  #acks = [];
  /** @type {{at: number, why: string}} */
  #refusal = { at: -Infinity, why: '' };

  /** @param {Control} control @param {string} group */
  constructor(control, group) {
    this.control = control;
    this.group = group;
    control.onack = (ack, now) => this.#acked(ack, now);
    control.oncommand = (device, now) => {
      for (const each of this.devices) if (each.name === device) this.#leave(each, now);
    };
  }

  /** @returns {DeviceInfo[]} those that move */
  get devices() {
    return this.control.store.state.devices.filter((device) => device.moves && device.group === this.group && device.axes.length > 0);
  }

  /** @param {AxisInfo['role']} role */
  has(role) {
    return this.devices.some((device) => device.axes.some((axis) => axis.role === role));
  }

  get holds() {
    return Boolean(this.control.group(this.group)?.lease);
  }

  get #armed() {
    return this.control.group(this.group)?.state === 'armed' && !this.control.stopping;
  }

  /** Whether all hands are off. */
  get neutral() {
    return Object.values(this.hands).every((value) => value === 0) && Object.keys(this.#others).length === 0;
  }

  /**
   * Send what is due.
   * @param {number} now
   * @param {boolean} [soon] something has just changed: send it now, unless that was done a moment ago
   */
  tick(now, soon = false) {
    const group = this.control.group(this.group);
    const lease = group?.lease ?? 0;
    for (const device of this.devices) if (device.phase !== 'live') this.#leave(device, now);
    // Where the owner says that pictures do not matter, one may stand still.
    const still = this.seeing && group?.max_age_ms !== 0 && (!this.shown || now - this.shown.at > this.patience);
    if (!group || !lease) {
      this.#lease = 0;
      this.frozen = still;
      this.#acks = [];
      this.#held = {};
      return;
    }
    if (lease !== this.#lease) {
      [this.#lease, this.#seq, this.#since] = [lease, 0, now];
      // It begins disarmed: nothing has to be told.
      this.frozen = this.#starting = still;
      this.#held = {};
      // Somebody else may have had it meanwhile.
      if (lease !== this.#putBy && lease !== this.#putBy + 1) this.#places.clear();
      this.#putBy = lease;
    }
    // What ends the way to a place ends it for good: it stays where it was stopped.
    if (!this.#armed) this.#held = {};
    this.#starting &&= still;
    if (still && !this.frozen && !this.hidden) this.control.halt(this.group, 'picture', now).catch(() => {});
    this.frozen = still;
    if (this.hidden || this.control.stopping || now - this.#sentAt < (soon ? PERIOD_MS / 2 : PERIOD_MS - 4)) return;
    // Of a set-point without a picture the agent takes nothing but that its sender is there.
    if (still && !(this.#starting && now - this.#since < STARTING_MS && now - Math.max(this.#since, this.#sentAt) >= LIFE_MS)) return;
    const values = still ? {} : this.#values(group, now, Math.min(100, now - this.#sentAt) / 1000);
    const { rtp = null, mid = '' } = (this.seeing && !still && this.shown) || {};
    const picture = rtp === null ? {} : { rtp, mid };
    // A channel that is full drops it: the next one is newer.
    this.control.set({ t: 'set', group: this.group, lease, seq: this.#seq++, at: now, ...picture, values });
    this.#sentAt = now;
  }

  /** @param {Group} group @param {number} now @param {number} seconds since the last */
  #values(group, now, seconds) {
    /** @type {Record<string, Record<string, number>>} */
    const values = {};
    for (const device of this.devices.slice(0, 8)) {
      values[device.name] = {};
      for (const axis of device.axes.slice(0, 16)) {
        const key = `${device.name}.${axis.name}`;
        const wish = axis.role === 'other' ? 0 : this.hands[axis.role];
        let value = this.#others[key] ?? along(axis, wish);
        if (axis.position) {
          // The stick moves a place that is held. What is left out stays where it is, and hinders no arming.
          const before = this.placeOf(device.name, axis) ?? axis.neutral;
          if (group.state !== 'armed' || (wish === 0 && this.#held[key] === undefined)) continue;
          value = before + (wish * seconds * (axis.maximum - axis.minimum)) / SWEEP_S;
        }
        value = Math.max(axis.minimum, Math.min(axis.maximum, value));
        if (axis.position) {
          this.#held[key] = value;
          this.#note(key, value, now);
        }
        values[device.name][axis.name] = Math.round(value * 1000) / 1000;
      }
    }
    return values;
  }

  /**
   * Move an axis that no stick steers: a place, while it is armed, stays where it is put; a speed lasts until it is let go.
   * @param {string} device @param {AxisInfo} axis @param {number} value its neutral one lets go
   */
  put(device, axis, value) {
    const key = `${device}.${axis.name}`;
    if (axis.position) {
      if (this.#armed) this.#held[key] = value;
    } else if (value === axis.neutral) delete this.#others[key];
    else this.#others[key] = value;
  }

  /** @param {string} key @param {number} value @param {number} now */
  #note(key, value, now) {
    const way = this.#places.get(key)?.way ?? [];
    if (way.at(-1)?.value !== value) way.push({ at: now, value });
    while (way.length > 1 && way[1].at <= now - 2 * LATE_MS) way.shift();
    this.#places.set(key, { at: now, way });
  }

  /**
   * A command, or being opened anew, may put it elsewhere, though mostly it does not: it stays, until its next reading tells.
   * @param {DeviceInfo} device @param {number} now
   */
  #leave(device, now) {
    for (const axis of device.axes) {
      const key = `${device.name}.${axis.name}`;
      delete this.#held[key];
      const put = this.#places.get(key);
      const value = this.placeOf(device.name, axis);
      if (put && value !== null) put.way = [{ at: now, value }];
    }
  }

  /**
   * The newest reading of an axis' name and unit, if it may be a place.
   * @param {string} device @param {AxisInfo} axis
   */
  #read(device, axis) {
    const point = this.control.trace(device, axis.name).at(-1);
    const known = this.devices.find(({ name }) => name === device)?.readings.find(({ name }) => name === axis.name);
    if (typeof point?.value !== 'number' || known?.unit !== axis.unit) return null;
    const beyond = BEYOND * (axis.maximum - axis.minimum);
    if (!(point.value >= axis.minimum - beyond && point.value <= axis.maximum + beyond)) return null;
    return { at: point.at, value: Math.max(axis.minimum, Math.min(axis.maximum, point.value)) };
  }

  /**
   * Where a held axis is: as it is put, else as a newer reading of its name says, else as it was put last, else null. Readings tell that
   * as set-points do, whatever the owner's limits. One that says where it was put may have been read on the way there.
   * @param {string} device @param {AxisInfo} axis
   */
  placeOf(device, axis) {
    const key = `${device}.${axis.name}`;
    if (this.#held[key] !== undefined) return this.#held[key];
    const [put, read] = [this.#places.get(key), this.#read(device, axis)];
    if (!put) return read?.value ?? null;
    const { at, way } = put;
    const last = way[way.length - 1].value;
    if (!read || read.at < way[0].at || read.at < at - LATE_MS) return last;
    // Where it had been put when that was read.
    const then = way.filter((_, i) => i === way.length - 1 || way[i + 1].at > read.at - LATE_MS).map(({ value }) => value);
    const little = LITTLE * (axis.maximum - axis.minimum);
    return read.value < Math.min(...then) - little || read.value > Math.max(...then) + little ? read.value : last;
  }

  /** Let what is held by a stick go back to the middle, while it is armed. */
  centre() {
    if (!this.#armed) return;
    for (const device of this.devices) for (const axis of device.axes) if (axis.position && axis.role !== 'other') this.#held[`${device.name}.${axis.name}`] = axis.neutral;
  }

  /** @param {Ack} ack @param {number} now */
  #acked(ack, now) {
    if (ack.group !== this.group || ack.lease !== this.#lease) return;
    this.#acks.push({ at: now, rtt: now - ack.at, late: ack.late_ms ?? 0, age: ack.age_ms ?? null });
    if (this.#acks.length > ACKS) this.#acks.shift();
    if (!ack.taken) this.#refusal = { at: now, why: ack.why };
    else this.#refusal.at = -Infinity;
  }

  /**
   * What the answers of the last seconds say.
   * @param {number} now
   * @returns {{rtt: number | null, late: number | null, age: number | null, why: string, silent: boolean}} medians in ms; `why` the
   *   latest set-point moved nothing; `silent` where none is answered
   */
  figures(now) {
    const recent = this.#acks.filter((each) => now - each.at < RECENT_MS);
    const median = (/** @type {number[]} */ all) => all.sort((a, b) => a - b)[all.length >> 1] ?? null;
    const heard = Math.max(this.#since, this.#acks.at(-1)?.at ?? 0);
    return {
      rtt: median(recent.map((each) => each.rtt)),
      late: median(recent.map((each) => each.late)),
      age: median(recent.flatMap((each) => each.age ?? [])),
      why: now - this.#refusal.at < 400 ? this.#refusal.why : '',
      silent: this.holds && now - this.#sentAt < 200 && now - heard > SILENT_MS,
    };
  }
}

/** A share of an axis in its own unit. @param {AxisInfo} axis @param {number} share -1 to 1 */
export function along({ minimum, maximum, neutral }, share) {
  return share >= 0 ? neutral + share * (maximum - neutral) : neutral + share * (neutral - minimum);
}
