// @ts-check
/**
 * The channels `control`, `events` and `telemetry` of the current peer, and the time that passes: what `control.js` decides is carried
 * out here. A new peer makes its channels anew.
 *
 * @typedef {import('./agent.js').Agent} Agent
 * @typedef {import('./peer.js').Peer} Peer
 */
import { Control, PERIOD_MS, Wheel } from './control.js';

/** Unordered and never sent again: what is late is of no use. @type {Record<string, RTCDataChannelInit>} */
const CHANNELS = { events: {}, control: { ordered: false, maxRetransmits: 0 }, telemetry: { ordered: false, maxRetransmits: 0 } };
/** Set-points that may wait in the browser, in bytes: about two. */
const WAITING = 600;
const EVERY_MS = 1000;

export class Desk {
  control;
  /** @type {Wheel | null} */
  wheel = null;
  #agent;
  /** @type {Map<string, RTCDataChannel>} */
  #channels = new Map();
  /** @type {Peer | null} */
  #peer = null;
  #timer = 0;
  #listens = true;

  /** @param {Agent} agent */
  constructor(agent) {
    this.#agent = agent;
    this.control = new Control((label, text) => this.#send(label, text));
    setInterval(() => this.#look(), EVERY_MS);
    document.addEventListener('visibilitychange', () => this.#look());
  }

  /** Who does not see the page wants readings only to drive by. */
  #look() {
    const [now, on] = [performance.now(), !document.hidden || this.#agent.driving];
    this.control.tick(now);
    if (on === this.#listens || !this.control.store.state.open) return;
    this.#listens = on;
    this.control.request({ t: 'listen', on }, now).catch(() => {});
  }

  /** @param {Peer} peer */
  join(peer) {
    if (peer === this.#peer) return;
    if (this.#peer) this.left(this.#peer);
    this.#peer = peer;
    let begun = false;
    // Browsers tell of messages and the opening in any order.
    const begin = () => {
      if (begun) return;
      begun = this.#listens = true;
      this.control.opened();
      void this.#signIn(peer);
    };
    for (const [label, options] of Object.entries(CHANNELS)) {
      const channel = peer.pc.createDataChannel(label, options);
      this.#channels.set(label, channel);
      channel.onmessage = ({ data }) => {
        if (label === 'events') begin();
        if (typeof data === 'string') this.control.message(data, performance.now());
      };
      if (label !== 'events') continue;
      channel.onopen = begin;
      channel.onclose = () => this.left(peer);
    }
  }

  /** This peer ends. @param {Peer} peer */
  left(peer) {
    if (peer !== this.#peer) return;
    this.#peer = null;
    for (const channel of this.#channels.values()) {
      channel.onopen = channel.onclose = channel.onmessage = null;
      channel.close();
    }
    this.#channels.clear();
    this.control.closed();
  }

  /** The agent gave this page a ticket that says what its person may do; a token that was typed goes before it. @param {Peer} peer */
  async #signIn(peer) {
    const { src, token } = this.#agent.settings;
    try {
      if (this.control.token) return await this.control.signIn(this.control.token, performance.now());
    } catch {
      // Another connection, or the token serves no more.
    }
    if (!src || peer !== this.#peer) return;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
      const response = await fetch(new URL('api/config', src), { headers, signal: AbortSignal.timeout(5000), cache: 'no-store' });
      const { ticket } = response.ok ? await response.json() : { ticket: '' };
      if (ticket && peer === this.#peer) await this.control.signIn(ticket, performance.now());
    } catch {
      // Whoever has no ticket watches, and may sign in.
    }
  }

  /**
   * @param {string} group to drive; '' ends it
   * @param {() => void} [look] called before each set-point: where the hands are. What sends may not rely on frames for that, which
   *   stop while timers go on
   */
  drive(group, look = () => {}) {
    clearInterval(this.#timer);
    this.wheel = group ? new Wheel(this.control, group) : null;
    const tick = () => {
      look();
      this.wheel?.tick(performance.now());
      this.#hasten();
    };
    if (group) this.#timer = window.setInterval(tick, PERIOD_MS);
    this.#hasten();
    return this.wheel;
  }

  /** Who holds the wheel would rather see a gap than what was. */
  #hasten() {
    const driving = this.wheel?.holds ?? false;
    if (driving === this.#agent.driving) return;
    this.#agent.driving = driving;
    this.#agent.wantedChanged();
  }

  /** @param {string} label @param {string} text @returns {boolean} whether the channel took it */
  #send(label, text) {
    const channel = this.#channels.get(label);
    if (channel?.readyState !== 'open' || (label === 'control' && channel.bufferedAmount > WAITING)) return false;
    channel.send(text);
    return true;
  }
}
