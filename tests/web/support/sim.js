// @ts-check
/**
 * A link in virtual time: its effects are carried out against an agent and a browser that are as quick, dead or deaf as
 * the test wants them.
 */
import { Link } from '../../../edgeagent/web/link.js';

/** A repeatable random source. @param {number} seed */
export function seeded(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @typedef {{id: number, sid: string, cameras: Map<string, string>, off: Set<string>, layers: Map<string, string>, sent: Map<string, number>, epoch: string, connected: boolean, closed: boolean, n: number}} SimPeer */

export class Sim {
  now = 1000;
  random;
  link;
  /** @type {{at: number, order: number, run: () => void}[]} */
  #due = [];
  #order = 0;
  /** When the timer goes off that a browser would have set. */
  #armed = Infinity;
  /** @type {Map<number, SimPeer>} */
  peers = new Map();
  /** @type {any[]} every effect, with its time */
  log = [];
  opened = 0;
  closed = 0;
  frames = 0;
  /** The agent. */
  agent = { up: true, epoch: 'e1', answerMs: 10, connectMs: 30, phases: /** @type {Record<string, string>} */ ({}), frozen: new Set(), deaf: false, every: /** @type {Record<string, number>} ms between pictures */ ({}) };
  /** What the doors do: `ok`, `refused` (nobody listens), `lost` (no answer ever). */
  doors = { whep: 'ok', mqtt: 'ok' };
  /** @type {(offer: any) => any} an error instead of an answer */
  refuse = () => null;
  visible = true;

  /** @param {{seed?: number, cameras?: string[], layers?: string[]}} [options] */
  constructor({ seed = 1, cameras = ['a', 'b'], layers = ['main'] } = {}) {
    this.random = seeded(seed);
    this.link = new Link({ random: this.random });
    this.cameras = cameras;
    this.layers = layers;
  }

  /** @param {string} [sid] */
  hello(sid) {
    return /** @type {any} */ ({
      v: 1,
      t: 'hello',
      ...(sid ? { sid } : {}),
      device: 'porch',
      title: '',
      version: '1',
      epoch: this.agent.epoch,
      cameras: this.cameras.map((name) => this.state(name)),
      ice_servers: [],
    });
  }

  /** @param {string} name */
  state(name) {
    const layers = this.layers.map((each, i) => ({ name: each, width: 1280 >> i, height: 720 >> i }));
    return { name, title: '', phase: this.agent.phases[name] ?? 'live', text: '', width: 640, height: 360, fps: 25, stamped: false, viewers: 1, layers };
  }

  /** Say hello, open a door, want the cameras. @param {string} door */
  start(door = 'whep') {
    this.event({ type: 'hello', hello: this.hello() });
    this.want(...this.cameras);
    if (door) this.event({ type: 'door', door, ready: true });
  }

  /** @param {string[]} cameras those with a trailing `-` are not active, `a:small` wishes for a layer */
  want(...cameras) {
    this.event({
      type: 'wanted',
      cameras: cameras.map((each) => {
        const [camera, layer] = each.replace(/-$/, '').split(':');
        return { camera, active: !each.endsWith('-'), ...(layer ? { layer } : {}) };
      }),
    });
  }

  /** The agent says how it sends a camera. @param {string} camera @param {any} flow */
  flows(camera, flow) {
    for (const peer of this.peers.values()) {
      const mid = [...peer.cameras].find(([, name]) => name === camera)?.[0];
      if (!mid || !peer.connected || peer.closed) continue;
      const whole = { mid, layer: 'main', kbps: 500, limit: 'none', text: '', ...flow };
      this.event({ type: 'message', peer: peer.id, message: { v: 1, t: 'flows', sid: peer.sid, flows: [whole] } });
    }
  }

  /** Layers that were wished for, by camera. */
  get wishes() {
    const peer = [...this.peers.values()].find((each) => each.id === this.link.summary.current?.id);
    return Object.fromEntries([...(peer?.cameras ?? [])].map(([mid, camera]) => [camera, peer?.layers.get(mid) ?? 'auto']));
  }

  /** @param {number} ms @param {() => void} run */
  after(ms, run) {
    this.#due.push({ at: this.now + ms, order: this.#order++, run });
  }

  /** @param {any} event */
  event(event) {
    for (const effect of this.link.handle(event, this.now)) this.#do(effect);
    const due = this.link.nextDeadline(this.now);
    this.#armed = due ?? Infinity;
    if (due !== null && !(due > this.now)) throw new Error(`deadline ${due} is not after ${this.now}`);
  }

  /** Let time pass. @param {number} ms */
  run(ms) {
    const end = this.now + ms;
    let last = -1;
    let same = 0;
    for (;;) {
      const next = this.#due.reduce((best, each) => (!best || each.at < best.at || (each.at === best.at && each.order < best.order) ? each : best), /** @type {any} */ (null));
      const at = Math.min(this.#armed, next?.at ?? Infinity);
      if (at > end) break;
      same = at === last ? same + 1 : 0;
      last = at;
      if (same > 1000) throw new Error(`time stands still at ${at}`);
      this.now = Math.max(this.now, at);
      if (next && next.at === at) {
        this.#due.splice(this.#due.indexOf(next), 1);
        next.run();
      } else this.event({ type: 'tick' });
    }
    this.now = end;
  }

  /** Run until `done`, at most `limit` ms; returns how long it took. @param {() => boolean} done @param {number} limit */
  until(done, limit) {
    const from = this.now;
    while (this.now - from < limit) {
      if (done()) return this.now - from;
      this.run(10);
    }
    if (done()) return limit;
    throw new Error(`not within ${limit} ms: ${JSON.stringify(this.link.summary)}`);
  }

  /** Whether all active cameras are live. */
  get live() {
    return this.cameras.every((camera) => this.link.view(camera, this.now).phase === 'live');
  }

  /** @param {string} kind */
  effects(kind) {
    return this.log.filter((each) => each.do === kind);
  }

  killAgent() {
    this.agent.up = false;
    for (const peer of this.peers.values()) peer.connected = false;
  }

  /** @param {string} epoch */
  startAgent(epoch) {
    Object.assign(this.agent, { up: true, epoch });
  }

  /** @param {any} effect */
  #do(effect) {
    this.log.push({ ...effect, at: this.now });
    switch (effect.do) {
      case 'open':
        this.opened += 1;
        this.peers.set(effect.peer, { id: effect.peer, sid: '', cameras: new Map(), off: new Set(), layers: new Map(), sent: new Map(), epoch: '', connected: false, closed: false, n: 0 });
        this.after(5, () => this.#alive(effect.peer) && this.event({ type: 'prepared', peer: effect.peer, mids: Array.from({ length: effect.lines }, (_, i) => String(i)) }));
        break;
      case 'extend': {
        const peer = /** @type {SimPeer} */ (this.peers.get(effect.peer));
        const from = peer.cameras.size;
        this.after(5, () => this.#alive(effect.peer) && this.event({ type: 'prepared', peer: effect.peer, mids: Array.from({ length: effect.lines }, (_, i) => String(from + i)) }));
        break;
      }
      case 'offer':
        this.#offer(effect);
        break;
      case 'send':
        this.#send(effect);
        break;
      case 'ping': {
        const peer = this.peers.get(effect.peer);
        const epoch = peer?.epoch;
        this.after(4, () => {
          if (peer && this.#alive(effect.peer) && peer.connected && this.agent.up && epoch === this.agent.epoch && !this.agent.deaf) {
            this.event({ type: 'message', peer: effect.peer, message: { t: 'pong', sid: peer.sid, id: 1, at: 0, now: 0 } });
          }
        });
        break;
      }
      case 'close': {
        const peer = this.peers.get(effect.peer);
        if (!peer || peer.closed) throw new Error(`peer ${effect.peer} closed twice`);
        peer.closed = true;
        this.closed += 1;
        break;
      }
    }
  }

  /** @param {number} id */
  #alive(id) {
    return this.peers.has(id) && !this.peers.get(id)?.closed;
  }

  /** @param {any} offer */
  #offer(offer) {
    const peer = /** @type {SimPeer} */ (this.peers.get(offer.peer));
    const again = peer.connected;
    peer.sid = offer.sid;
    peer.n = offer.n;
    const how = offer.door === 'channel' ? 'ok' : this.doors[/** @type {'whep' | 'mqtt'} */ (offer.door)];
    if (how === 'lost' || (offer.door === 'mqtt' && !this.agent.up)) return;
    if (how === 'refused' || !this.agent.up) {
      this.after(2, () => this.#alive(offer.peer) && this.event({ type: 'unreachable', peer: offer.peer }));
      return;
    }
    const epoch = this.agent.epoch;
    const error = this.refuse(offer);
    this.after(this.agent.answerMs, () => {
      if (!this.#alive(offer.peer) || !this.agent.up || this.agent.epoch !== epoch) return;
      if (error) return this.event({ type: 'message', message: { t: 'error', sid: offer.sid, n: offer.n, ...error } });
      peer.epoch = epoch;
      peer.cameras = new Map(Object.entries(offer.cameras));
      this.event({ type: 'message', message: { t: 'answer', sid: offer.sid, n: offer.n, sdp: 'v=0', cameras: offer.cameras } });
      if (again) return;
      this.after(this.agent.connectMs, () => {
        if (!this.#alive(offer.peer) || !this.agent.up || this.agent.epoch !== epoch) return;
        peer.connected = true;
        this.event({ type: 'connection', peer: offer.peer, state: 'connected' });
        this.event({ type: 'channel', peer: offer.peer, open: true });
        this.event({ type: 'message', peer: offer.peer, message: this.hello(peer.sid) });
        this.#frame(peer);
      });
    });
  }

  /** @param {SimPeer} peer */
  #frame(peer) {
    this.after(40, () => {
      if (peer.closed) return;
      if (!peer.connected || !this.agent.up || peer.epoch !== this.agent.epoch) return;
      for (const [mid, camera] of peer.cameras) {
        if (!this.visible || peer.off.has(mid) || this.agent.frozen.has(camera) || (this.agent.phases[camera] ?? 'live') !== 'live') continue;
        if (this.now - (peer.sent.get(mid) ?? -Infinity) < (this.agent.every[camera] ?? 0)) continue;
        peer.sent.set(mid, this.now);
        this.frames += 1;
        this.event({ type: 'frame', peer: peer.id, mid });
      }
      this.#frame(peer);
    });
  }

  /** @param {any} effect */
  #send({ peer: id, message }) {
    const peer = /** @type {SimPeer} */ (this.peers.get(id));
    if (!peer.connected || !this.agent.up) return;
    if (message.t === 'quality') {
      const known = ['auto', 'off', ...this.layers].includes(message.layer);
      const error = { t: 'error', sid: peer.sid, id: message.id, code: 404, message: 'There is no such layer.' };
      if (!known) return this.after(8, () => this.#alive(id) && this.event({ type: 'message', peer: id, message: error }));
      peer.layers.set(message.mid, message.layer);
      if (message.layer === 'off') peer.off.add(message.mid);
      else peer.off.delete(message.mid);
    }
    if (message.t !== 'switch') return;
    this.after(8, () => {
      if (!this.#alive(id)) return;
      peer.cameras.set(message.mid, message.camera);
      this.event({ type: 'message', peer: id, message: { t: 'done', sid: peer.sid, id: message.id } });
    });
  }
}
