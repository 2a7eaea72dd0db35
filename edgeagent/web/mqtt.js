// @ts-check
/**
 * The door of MQTT, over WebSocket: a `Door` (types.d.ts) like that of WHEP. It is loaded with its library when it is
 * needed.
 */
import { retryDelay } from './backoff.js';

/**
 * @typedef {import('./types.js').Door} Door
 * @typedef {import('./types.js').DoorEvents} DoorEvents
 * @typedef {import('./types.js').Offer} Offer
 * @typedef {import('./types.js').ViewerMessage} ViewerMessage
 */

const MAX_MESSAGE = 65_536;

/**
 * A broker on the agent's own loopback, seen from a page that came from elsewhere: the same host is meant.
 * @param {string} broker @param {string} host of the page
 */
export function reachableBroker(broker, host) {
  const url = new URL(broker);
  const loopback = /^(localhost|127\.|\[::1\])/;
  if (loopback.test(url.hostname) && host && !loopback.test(host)) url.hostname = host;
  return url.href;
}

/**
 * MQTT over WebSocket. The library is loaded when the door is opened, the broker tried again for as long as it is open.
 * @implements {Door}
 */
export class MqttDoor {
  name = 'mqtt';
  #options;
  #events;
  /** @type {any} */
  #client = null;
  #open = false;
  #ready = false;
  #failures = 0;
  /** Not answered yet. @type {Offer | null} */
  #offered = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /**
   * @param {{url: string, device: string, viewer: string, username?: string, password?: string,
   *   load: () => Promise<any>, random?: () => number}} options `load` gives the module of MQTT.js
   * @param {DoorEvents} events
   */
  constructor(options, events) {
    this.#options = { random: Math.random, ...options };
    this.#events = events;
  }

  open() {
    if (this.#open) return;
    this.#open = true;
    this.#events.event({ type: 'door', door: this.name, ready: false });
    void this.#connect();
  }

  close() {
    this.#open = false;
    clearTimeout(this.#retry);
    this.#discard();
  }

  wake() {
    if (!this.#open) return;
    // A socket that slept is not to be trusted, and a new one costs a few milliseconds.
    this.#failures = 0;
    clearTimeout(this.#retry);
    this.#discard();
    void this.#connect();
  }

  /** @param {number} peer @param {Offer} offer */
  offer(peer, offer) {
    this.#offered = offer;
    if (!this.#publish(offer)) this.#events.event({ type: 'unreachable', peer });
  }

  /** @param {number} _peer @param {ViewerMessage} message */
  send(_peer, message) {
    if (message.t === 'bye') this.#settled(message.sid);
    this.#publish(message);
  }

  forget() {}

  /** @param {string} sid */
  #settled(sid) {
    if (sid === this.#offered?.sid) this.#offered = null;
  }

  async #connect() {
    const { url, device, viewer, username, password, load } = this.#options;
    let mqtt;
    try {
      mqtt = await load();
    } catch {
      return this.#failed();
    }
    if (!this.#open || this.#client) return;
    const client = mqtt.connect(url, {
      clientId: `ea-${viewer}`,
      clean: true,
      protocolVersion: 4,
      keepalive: 20,
      connectTimeout: 5000,
      // Retrying is decided here; the library's own has no jitter, and its Blob worker is barred by the page's policy.
      reconnectPeriod: 0,
      timerVariant: 'native',
      resubscribe: false,
      queueQoSZero: false,
      ...(username ? { username, password } : {}),
    });
    this.#client = client;
    client.on('connect', () => {
      if (client !== this.#client) return;
      this.#failures = 0;
      const root = `ea/1/d/${device}`;
      client.subscribe({ [`${root}/hello`]: { qos: 1 }, [`${root}/up`]: { qos: 1 }, [`ea/1/v/${viewer}/in/+`]: { qos: 1 } });
      // The broker takes packets in order: an offer that follows the subscription at once loses no answer.
      this.#setReady(true);
    });
    client.on('message', (/** @type {string} */ topic, /** @type {Uint8Array} */ payload, /** @type {{retain?: boolean} | undefined} */ packet) => {
      if (client === this.#client) this.#receive(topic, payload, packet?.retain === true);
    });
    client.on('error', (/** @type {{code?: number, message?: string}} */ error) => {
      // 4 and 5: bad user name or password, not authorized (MQTT 3.1.1, 3.2.2.3).
      if (client === this.#client && (error?.code === 4 || error?.code === 5)) this.#events.unauthorized('The broker refused the user name or password.');
    });
    client.on('close', () => {
      if (client === this.#client) this.#failed();
    });
  }

  /** @param {string} topic @param {Uint8Array} payload @param {boolean} kept by the broker from before */
  #receive(topic, payload, kept) {
    if (payload.length === 0 || payload.length > MAX_MESSAGE) return;
    let message;
    try {
      message = JSON.parse(new TextDecoder().decode(payload));
    } catch {
      return;
    }
    if (!message || typeof message !== 'object') return;
    const { device, viewer } = this.#options;
    if (topic === `ea/1/d/${device}/up`) {
      this.#events.event({ type: 'presence', up: message.up === 1, epoch: typeof message.epoch === 'string' ? message.epoch : null });
      // It listens from now on: what it was offered before, as to a broker that had just returned, was lost. It knows what it gets twice.
      if (message.up === 1 && !kept && this.#offered) this.#publish(this.#offered);
    } else if (topic === `ea/1/d/${device}/hello`) {
      if (message.t === 'hello' && message.v === 1) this.#events.event({ type: 'message', message });
    } else if (topic === `ea/1/v/${viewer}/in/${device}` && typeof message.t === 'string') {
      this.#settled(message.sid);
      this.#events.event({ type: 'message', message });
    }
  }

  /** @param {ViewerMessage} message @returns {boolean} whether it left */
  #publish(message) {
    const { device, viewer } = this.#options;
    if (!this.#ready || !this.#client) return false;
    this.#client.publish(`ea/1/d/${device}/in/${viewer}`, JSON.stringify(message), { qos: 0 });
    return true;
  }

  #failed() {
    this.#discard();
    if (!this.#open) return;
    this.#failures += 1;
    this.#events.event({ type: 'door', door: this.name, ready: false, down: true });
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#connect(), retryDelay(this.#failures, this.#options.random));
  }

  #discard() {
    const client = this.#client;
    this.#client = this.#offered = null;
    this.#setReady(false);
    client?.on?.('error', () => {});
    client?.end?.(true);
  }

  /** @param {boolean} ready */
  #setReady(ready) {
    if (this.#ready === ready) return;
    this.#ready = ready;
    this.#events.event({ type: 'door', door: this.name, ready });
    if (!ready) this.#events.event({ type: 'presence', up: null, epoch: null });
  }
}
