// @ts-check
/**
 * The connection to one agent, as decisions only: `handle(event, now)` returns effects, `nextDeadline(now)` says when to
 * send `tick`. No browser object, clock or timer is touched, so Node's tests run it in virtual time.
 *
 * One peer connection carries all cameras. There is no ICE restart: recovery is a new peer beside the old one.
 *
 * | A peer is    | it means                                    | it leaves this when                                        |
 * |--------------|---------------------------------------------|------------------------------------------------------------|
 * | preparing    | the browser makes the offer                 | `prepared` → ready                                         |
 * | ready        | the offer waits for a door or for its turn  | offer sent → offered; older than 30 s → thrown away        |
 * | offered      | the agent has the offer                     | answer → answered; refused or 3 s of silence → failed      |
 * | answered     | ICE and DTLS run                            | connected → current; failed or too slow → failed           |
 * | current      | it carries the pictures                     | another is connected → retiring                            |
 * | retiring     | the old one, its pictures still shown       | the new one shows every picture, or 4 s have passed        |
 *
 * A new peer is wanted when there is none, the current one is dead (failed, channel closed, `bye`, agent restarted, a
 * question unanswered for 1 s after waking) or a camera that should be live brought no frame for 2 s. Where the agent says that it
 * sends less on purpose (`flows`), pictures may be seldom: after 2 s it is asked, and while it answers within 3 s, 12 s are waited.
 */
import { retryDelay } from './backoff.js';

/**
 * @typedef {import('./types.js').CameraState} CameraState
 * @typedef {import('./types.js').AgentMessage} AgentMessage
 * @typedef {import('./types.js').ViewerMessage} ViewerMessage
 * @typedef {import('./types.js').Wish} Wish
 * @typedef {import('./types.js').LinkEvent} LinkEvent
 * @typedef {import('./types.js').LinkEffect} LinkEffect
 * @typedef {import('./types.js').CameraView} CameraView
 * @typedef {import('./types.js').Flow} Flow
 *
 * @typedef {object} Line one video m-line
 * @property {string} mid
 * @property {string} camera
 * @property {string} layer the last wish sent: `auto`, a layer's name or `off`
 * @property {Wish['delay']} delay that went with it
 * @property {number} wish its number
 * @property {string} refused a layer that the agent does not have
 * @property {Flow | null} flow how the agent says that it sends
 * @property {number} since when frames began to be expected
 * @property {number | null} first when the first frame came
 * @property {number | null} last when the latest frame came
 * @property {{id: number, camera: string} | null} switching
 *
 * @typedef {object} Peer
 * @property {number} id
 * @property {string} sid
 * @property {'preparing' | 'ready' | 'offered' | 'answered' | 'up'} stage
 * @property {number} at when the stage began
 * @property {string} door
 * @property {string | null} epoch of the agent it talks to
 * @property {boolean} open the data channel
 * @property {boolean} greeted whether the agent has said hello over it, and so what it calls the session
 * @property {number} n number of the last offer
 * @property {string[] | null} adding cameras of the offer under way
 * @property {number} addingSince
 * @property {boolean} sent whether that offer has left
 * @property {string[]} cameras asked for in the first offer, in the order of its m-lines
 * @property {string[]} mids
 * @property {Map<string, Line>} lines by mid
 * @property {string | null} dead why, once it is
 * @property {number | null} probeBy until when it must have answered
 * @property {number} heardAt when it was last heard, frames aside
 */

export const STALE_MS = 2000;
const SELDOM_MS = 12_000;
const SELDOM_PROBE_MS = 3000;
const ANSWER_MS = 3000;
const CONNECT_MS = 4000;
const CONNECT_MAX_MS = 10_000;
const READY_MS = 30_000;
const FIRST_FRAME_MS = 4000;
const PROBE_MS = 1000;
const RETIRE_MS = 4000;
const HIDE_MS = 3000;
const LEAVE_MS = 300_000;
const UNWANTED_MS = 3000;
const OFFER_MS = 5000;
const REFUSED_MS = 30_000;
export const MAX_LINES = 16;

/** Camera phases in which no frame can be expected. */
const SILENT = new Set(['starting', 'retrying', 'failed']);

export class Link {
  #random;
  /** @type {LinkEffect[]} */
  #out = [];
  /** @type {Map<string, {ready: boolean, down: boolean, failedAt: number}>} */
  #doors = new Map();
  /** @type {Wish[]} */
  #wanted = [];
  /** Whether a peer is wanted that carries no picture. */
  #data = false;
  /** @type {number | null} */
  #unwantedSince = 0;
  /** @type {Map<string, CameraState>} */
  #cameras = new Map();
  /** @type {Map<string, {first: number, last: number}>} frames ever seen of a camera */
  #seen = new Map();
  /** @type {Map<string, {tries: number, notBefore: number}>} cameras that stay dark although the link works */
  #dark = new Map();
  /** @type {Map<string, {text: string, until: number}>} */
  #refused = new Map();
  /** @type {{up: boolean | null, epoch: string | null}} */
  #agent = { up: null, epoch: null };
  #visible = true;
  #keep = false;
  #hiddenAt = 0;
  /** @type {Peer | null} */
  #current = null;
  /** @type {Peer | null} */
  #next = null;
  /** @type {{peer: Peer, until: number} | null} */
  #retiring = null;
  #failures = 0;
  #retryAt = 0;
  #begun = false;
  /** @type {'' | 'signin' | 'refused'} */
  #blocked = '';
  /** Why the agent did not do it, in its own words. */
  #told = '';
  #unreachable = false;
  /** @type {'' | 'answer' | 'connect'} what the last attempt waited for in vain */
  #stuck = '';
  #ids = 0;

  /** @param {{random?: () => number}} [options] */
  constructor({ random = Math.random } = {}) {
    this.#random = random;
  }

  /**
   * @param {LinkEvent} event
   * @param {number} now ms, monotonic
   * @returns {LinkEffect[]}
   */
  handle(event, now) {
    this.#out = [];
    this.#take(event, now);
    this.#advance(now);
    return this.#out;
  }

  /** @param {LinkEvent} event @param {number} now */
  #take(event, now) {
    switch (event.type) {
      case 'wanted':
        this.#wanted = event.cameras;
        this.#data = event.data ?? false;
        this.#unwantedSince = event.cameras.length || this.#data ? null : (this.#unwantedSince ?? now);
        break;
      case 'door': {
        const had = this.#doors.get(event.door);
        if (event.ready && !had?.ready && this.#doorCount() === 0) this.#retryAt = Math.min(this.#retryAt, now);
        const down = event.ready ? false : (event.down ?? had?.down ?? false);
        this.#doors.set(event.door, { ready: event.ready, down, failedAt: event.ready && had?.ready ? had.failedAt : 0 });
        break;
      }
      case 'presence':
        this.#presence(event.up, event.epoch, now);
        break;
      case 'hello':
        this.#hello(event.hello, null, now);
        break;
      case 'visible':
        this.#visibility(event.visible, event.keep, now);
        break;
      case 'woke':
        this.#retryAt = Math.min(this.#retryAt, now);
        for (const line of this.#lines()) line.since = now;
        this.#probe(now);
        break;
      case 'authorized':
      case 'retry':
        this.#blocked = this.#told = '';
        this.#failures = 0;
        this.#retryAt = now;
        this.#refused.clear();
        break;
      case 'message':
        this.#message(event, now);
        break;
      case 'tick':
        break;
      default:
        this.#peerEvent(event, now);
    }
  }

  /** @param {Extract<LinkEvent, {peer: number}>} event @param {number} now */
  #peerEvent(event, now) {
    const peer = this.#peer(event.peer);
    if (!peer) return;
    switch (event.type) {
      case 'prepared':
        if (peer.stage === 'preparing') {
          peer.mids = event.mids;
          this.#stage(peer, 'ready', now);
        } else if (peer.adding && !peer.sent) {
          peer.sent = true;
          peer.n += 1;
          /** @type {Record<string, string>} */
          const cameras = {};
          for (const line of peer.lines.values()) cameras[line.mid] = line.camera;
          event.mids.forEach((mid, i) => {
            const camera = peer.adding?.[i];
            if (!camera) return;
            cameras[mid] = camera;
            this.#addLine(peer, mid, camera, now);
          });
          this.#out.push({ do: 'offer', peer: peer.id, door: 'channel', sid: peer.sid, n: peer.n, epoch: peer.epoch, cameras });
        }
        break;
      case 'unreachable':
        if (peer === this.#next && peer.stage === 'offered') {
          // Nobody has seen the offer: the same peer asks again.
          this.#unreachable = true;
          this.#stuck = 'answer';
          this.#stage(peer, 'ready', peer.at);
          this.#failed(peer.door, now);
        }
        break;
      case 'connection':
        if (event.state === 'connected') this.#connected(peer, now);
        else if (event.state === 'failed' || event.state === 'closed') this.#lost(peer, `connection ${event.state}`, now);
        else if (event.state === 'disconnected' && peer === this.#current) this.#probe(now);
        break;
      case 'channel':
        if (!event.open && peer.open) this.#lost(peer, 'channel closed', now);
        peer.open = event.open;
        break;
      case 'broken':
        this.#lost(peer, event.reason, now);
        break;
      case 'frame': {
        const line = peer.lines.get(event.mid);
        if (!line || line.switching || (event.decoded && line.first === null)) break;
        line.first ??= now;
        line.last = now;
        const seen = this.#seen.get(line.camera);
        this.#seen.set(line.camera, { first: seen?.first ?? now, last: now });
        if (peer !== this.#current) break;
        peer.probeBy = null;
        this.#dark.delete(line.camera);
        this.#succeeded();
        break;
      }
    }
  }

  /** @param {Extract<LinkEvent, {type: 'message'}>} event @param {number} now */
  #message({ message, peer: from }, now) {
    const peer = from ? this.#peer(from) : this.#bySid(('sid' in message && message.sid) || null);
    if (peer && from) peer.heardAt = now;
    if (message.t === 'hello') return this.#hello(message, peer, now);
    if (message.t === 'state') return this.#states(message.cameras, now);
    if (!peer) return;
    switch (message.t) {
      case 'answer':
        if (message.n !== peer.n) return;
        if (peer.stage === 'offered') this.#stage(peer, 'answered', now);
        else if (!peer.adding) return;
        peer.adding = null;
        this.#unreachable = false;
        this.#out.push({ do: 'answer', peer: peer.id, sdp: message.sdp });
        break;
      case 'ice':
        if (message.candidates?.length) this.#out.push({ do: 'candidates', peer: peer.id, candidates: message.candidates });
        break;
      case 'bye':
        if (peer === this.#current && message.reason) this.#told = message.reason;
        this.#lost(peer, message.reason || 'agent ended', now);
        break;
      case 'error':
        this.#error(peer, message, now);
        break;
      case 'pong':
        peer.probeBy = null;
        break;
      case 'flows':
        for (const flow of message.flows) {
          const line = peer.lines.get(flow.mid);
          if (line) line.flow = flow;
        }
        break;
      case 'done':
        for (const line of peer.lines.values()) {
          if (line.switching?.id !== message.id) continue;
          this.#out.push({ do: 'detach', peer: peer.id, camera: line.camera });
          Object.assign(line, { camera: line.switching.camera, switching: null, since: now, first: null, last: null, flow: null, refused: '' });
          this.#out.push({ do: 'attach', peer: peer.id, mid: line.mid, camera: line.camera });
        }
        break;
    }
  }

  /** @param {Peer} peer @param {Extract<AgentMessage, {t: 'error'}>} error @param {number} now */
  #error(peer, error, now) {
    if (typeof error.id === 'number') {
      for (const line of peer.lines.values()) {
        if (line.wish === error.id) line.refused = line.layer;
        if (line.switching?.id !== error.id) continue;
        this.#refused.set(line.switching.camera, { text: error.message, until: now + REFUSED_MS });
        line.switching = null;
      }
      return;
    }
    if (peer.adding && peer.stage === 'up') {
      for (const camera of peer.adding) this.#refused.set(camera, { text: error.message, until: now + REFUSED_MS });
      for (const line of [...peer.lines.values()]) {
        if (!peer.adding.includes(line.camera)) continue;
        peer.lines.delete(line.mid);
        this.#out.push({ do: 'detach', peer: peer.id, camera: line.camera });
      }
      peer.adding = null;
      this.#out.push({ do: 'rollback', peer: peer.id });
      return;
    }
    if (peer !== this.#next) return;
    const { door } = peer;
    this.#drop(peer, 'refused');
    this.#unreachable = false;
    this.#told = error.message;
    if (error.code === 401 || error.code === 403) this.#blocked = 'signin';
    else if (error.code === 406 || error.code === 426) this.#blocked = 'refused';
    else {
      if (error.code === 404 || error.code === 409) this.#out.push({ do: 'refresh' });
      this.#failed(door, now, 1000 * (error.retry_s ?? 0));
    }
  }

  /** @param {import('./types.js').Hello} hello @param {Peer | null} peer it came over this one's channel @param {number} now */
  #hello(hello, peer, now) {
    if (peer) {
      peer.epoch = hello.epoch;
      peer.greeted = true;
      if (hello.sid) peer.sid = hello.sid;
    }
    if (this.#agent.epoch !== hello.epoch) this.#epoch(hello.epoch, now);
    const names = new Set(hello.cameras.map((camera) => camera.name));
    for (const name of this.#cameras.keys()) if (!names.has(name)) this.#cameras.delete(name);
    this.#states(hello.cameras, now);
  }

  /** @param {CameraState[]} states @param {number} now */
  #states(states, now) {
    for (const state of states) {
      const before = this.#cameras.get(state.name);
      this.#cameras.set(state.name, state);
      if (!before || !SILENT.has(before.phase) || SILENT.has(state.phase)) continue;
      // It has come to life: its frames are expected from now on.
      for (const line of this.#lines()) if (line.camera === state.name) line.since = now;
    }
  }

  /** @param {boolean | null} up @param {string | null} epoch @param {number} now */
  #presence(up, epoch, now) {
    // A will that an earlier run of the agent left behind says nothing about this one.
    if (up === false && epoch && this.#agent.epoch && epoch !== this.#agent.epoch) return;
    const rose = up === true && this.#agent.up !== true;
    this.#agent.up = up;
    if (up === false) this.#probe(now);
    if (up === true && epoch && epoch !== this.#agent.epoch) this.#epoch(epoch, now);
    if (rose) this.#retryAt = Math.min(this.#retryAt, now);
  }

  /** The agent was started anew. @param {string} epoch @param {number} now */
  #epoch(epoch, now) {
    const known = this.#agent.epoch !== null;
    this.#agent.epoch = epoch;
    if (!known) return;
    if (this.#blocked === 'refused') this.#blocked = '';
    this.#refused.clear();
    this.#dark.clear();
    this.#retryAt = Math.min(this.#retryAt, now);
    const current = this.#current;
    if (current?.epoch && current.epoch !== epoch) current.dead ??= 'the agent was restarted';
    const next = this.#next;
    if (next && next.stage !== 'preparing' && next.stage !== 'ready' && next.epoch && next.epoch !== epoch) {
      this.#drop(next, 'the agent was restarted');
    }
  }

  /** @param {boolean} visible @param {boolean} keep @param {number} now */
  #visibility(visible, keep, now) {
    const was = this.#visible || this.#keep;
    this.#visible = visible;
    this.#keep = keep;
    const is = visible || keep;
    if (was && !is) this.#hiddenAt = now;
    if (!was && is) {
      this.#retryAt = Math.min(this.#retryAt, now);
      for (const line of this.#lines()) line.since = now;
      this.#probe(now);
    }
  }

  /** Ask the current peer whether it lives. @param {number} now @param {number} [patience] ms */
  #probe(now, patience = PROBE_MS) {
    const peer = this.#current;
    if (!peer || peer.dead || !peer.open) return;
    peer.probeBy ??= now + patience;
    this.#out.push({ do: 'ping', peer: peer.id });
  }

  /** @param {Peer} peer @param {number} now */
  #connected(peer, now) {
    if (peer !== this.#next) return;
    this.#stage(peer, 'up', now);
    this.#next = null;
    if (this.#retiring) this.#drop(this.#retiring.peer, 'replaced');
    this.#retiring = this.#current ? { peer: this.#current, until: now + RETIRE_MS } : null;
    this.#current = peer;
    for (const line of peer.lines.values()) line.since = now;
    if (this.#data) this.#succeeded();
    this.#out.push({ do: 'promoted', peer: peer.id, door: peer.door });
  }

  /** A peer is of no use any more. @param {Peer} peer @param {string} why @param {number} now */
  #lost(peer, why, now) {
    if (peer === this.#next) {
      this.#stuck = peer.stage === 'answered' ? 'connect' : 'answer';
      this.#drop(peer, why);
      this.#failed(peer.door, now);
    } else if (peer === this.#current) peer.dead ??= why;
    else if (peer === this.#retiring?.peer) this.#drop(peer, why);
  }

  /** @param {string} door @param {number} now @param {number} [wait] ms that the agent asked for */
  #failed(door, now, wait = 0) {
    const entry = this.#doors.get(door);
    if (entry) entry.failedAt = now;
    this.#failures += 1;
    this.#retryAt = now + Math.max(retryDelay(this.#failures, this.#random), Math.min(wait, 60_000));
  }

  #succeeded() {
    this.#failures = 0;
    this.#retryAt = 0;
    this.#unreachable = false;
    this.#stuck = this.#told = this.#blocked = '';
    for (const door of this.#doors.values()) door.failedAt = 0;
  }

  /** Everything that follows from the state alone. @param {number} now */
  #advance(now) {
    const hidden = this.#hiddenFor(now);
    if (this.#unwantedFor(now) >= UNWANTED_MS || hidden >= LEAVE_MS) {
      for (const peer of [this.#next, this.#current, this.#retiring?.peer]) if (peer) this.#drop(peer, 'not watched');
      return;
    }
    if (this.#retiring && (now >= this.#retiring.until || this.#allShown(now))) this.#drop(this.#retiring.peer, 'replaced');
    const current = this.#current;
    if (current?.probeBy && now >= current.probeBy) current.dead ??= 'no answer';
    if (current && hidden === 0 && now >= this.#askAt(current)) this.#probe(now, SELDOM_PROBE_MS);
    if (current?.adding && now - current.addingSince >= OFFER_MS) current.dead ??= 'no answer to a new offer';
    if (hidden === 0) this.#recover(now);
    else if (this.#next && hidden >= HIDE_MS) this.#drop(this.#next, 'hidden');
    if (current && current === this.#alive) this.#sync(current, now);
  }

  /** Decide on the peer beside the current one. @param {number} now */
  #recover(now) {
    this.#expire(now);
    const active = this.#active();
    if (!(active.length || this.#data) || this.#blocked) {
      if (this.#next) this.#drop(this.#next, 'not needed');
      return;
    }
    const alive = this.#alive;
    const stale = alive ? this.#stale(alive, now) : [];
    if (alive && !stale.length) {
      // The old one has come back before the new one was up.
      if (this.#next) this.#drop(this.#next, 'not needed');
      return;
    }
    const cameras = active.slice(0, MAX_LINES);
    const next = this.#next;
    if (next && (next.stage === 'preparing' || next.stage === 'ready')) {
      if (next.cameras.length !== cameras.length) this.#drop(next, 'other cameras');
      else next.cameras = cameras;
    }
    if (!this.#next) {
      const lines = [...(this.#current?.lines.values() ?? [])];
      if (stale.length && !lines.some((line) => now >= this.#reopenAt(line))) return;
      for (const camera of stale) {
        const tries = (this.#dark.get(camera)?.tries ?? 0) + 1;
        this.#dark.set(camera, { tries, notBefore: now + Math.min(60_000, 2000 * 2 ** tries) });
      }
      // The answer tells a camera that is stuck from a network that is.
      if (this.#current?.open) this.#out.push({ do: 'ping', peer: this.#current.id });
      this.#open(cameras, now);
    }
    this.#offer(now);
  }

  /** Time-outs of the peer under way. @param {number} now */
  #expire(now) {
    const next = this.#next;
    if (!next) return;
    const age = now - next.at;
    if ((next.stage === 'preparing' || next.stage === 'ready') && age >= READY_MS) return this.#drop(next, 'old');
    const limit = next.stage === 'offered' ? ANSWER_MS : Math.min(CONNECT_MAX_MS, CONNECT_MS + 1500 * this.#failures);
    if ((next.stage !== 'offered' && next.stage !== 'answered') || age < limit) return;
    if (next.stage === 'offered') this.#unreachable = true;
    this.#lost(next, next.stage === 'offered' ? 'no answer' : 'no connection', now);
  }

  /** @param {string[]} cameras @param {number} now */
  #open(cameras, now) {
    const id = ++this.#ids;
    this.#next = {
      id,
      sid: Array.from({ length: 16 }, () => Math.floor(this.#random() * 36).toString(36)).join(''),
      stage: 'preparing',
      at: now,
      door: '',
      epoch: null,
      open: false,
      greeted: false,
      n: 1,
      adding: null,
      addingSince: 0,
      sent: false,
      cameras,
      mids: [],
      lines: new Map(),
      dead: null,
      probeBy: null,
      heardAt: now,
    };
    this.#out.push({ do: 'open', peer: id, lines: cameras.length });
  }

  /** @param {number} now */
  #offer(now) {
    const next = this.#next;
    if (!next || next.stage !== 'ready' || (this.#begun && now < this.#retryAt)) return;
    const door = this.#pick();
    if (!door) return;
    next.door = door;
    next.epoch = this.#agent.epoch;
    this.#begun = true;
    this.#stage(next, 'offered', now);
    /** @type {Record<string, string>} */
    const cameras = {};
    next.mids.forEach((mid, i) => {
      cameras[mid] = next.cameras[i];
      this.#addLine(next, mid, next.cameras[i], now);
    });
    this.#out.push({ do: 'offer', peer: next.id, door, sid: next.sid, n: 1, epoch: next.epoch, cameras });
  }

  /** The door to use: the one that failed longest ago, MQTT before WHEP. */
  #pick() {
    const ready = [...this.#doors].filter(([name, door]) => door.ready && !(name === 'mqtt' && this.#agent.up === false));
    ready.sort((a, b) => a[1].failedAt - b[1].failedAt || a[0].localeCompare(b[0]));
    return ready[0]?.[0] ?? null;
  }

  /** Make the current peer carry what is wanted. @param {Peer} peer @param {number} now */
  #sync(peer, now) {
    if (!peer.open || !peer.greeted) return;
    const shown = this.#hiddenFor(now) < HIDE_MS;
    const active = this.#active();
    const wanted = new Set(this.#wanted.map((wish) => wish.camera));
    const lines = [...peer.lines.values()];
    const here = new Set(lines.flatMap((line) => [line.camera, line.switching?.camera ?? '']));
    const missing = shown ? active.filter((camera) => !here.has(camera) && !this.#isRefused(camera, now)) : [];
    const full = lines.length >= MAX_LINES;
    const free = lines.filter((line) => !line.switching && (full ? !active.includes(line.camera) : !wanted.has(line.camera)));
    while (missing.length && free.length && !peer.adding) {
      const [line, camera] = [/** @type {Line} */ (free.shift()), /** @type {string} */ (missing.shift())];
      line.switching = { id: ++this.#ids, camera };
      if (line.layer === 'off') this.#wish(peer, line, 'auto', now);
      this.#send(peer, { v: 1, t: 'switch', sid: peer.sid, id: line.switching.id, mid: line.mid, camera });
    }
    if (missing.length && !full && !peer.adding) {
      peer.adding = missing.slice(0, MAX_LINES - lines.length);
      peer.addingSince = now;
      peer.sent = false;
      this.#out.push({ do: 'extend', peer: peer.id, lines: peer.adding.length });
    }
    for (const line of lines) {
      const layer = shown ? this.#layer(line) : 'off';
      if (line.layer !== layer || line.delay !== this.#delay(line)) this.#wish(peer, line, layer, now);
    }
  }

  /** What is wanted of a line's camera. @param {Line} line */
  #wishFor(line) {
    return this.#wanted.find((each) => each.camera === (line.switching?.camera ?? line.camera));
  }

  /** @param {Line} line */
  #delay(line) {
    return this.#wishFor(line)?.delay;
  }

  /** The layer that is wanted of a line's camera. @param {Line} line */
  #layer(line) {
    const wish = this.#wishFor(line);
    if (!wish?.active) return 'off';
    return wish.layer && wish.layer !== line.refused ? wish.layer : 'auto';
  }

  /** @param {Peer} peer @param {Line} line @param {string} layer @param {number} now */
  #wish(peer, line, layer, now) {
    line.layer = layer;
    line.delay = this.#delay(line);
    line.since = now;
    line.wish = ++this.#ids;
    this.#send(peer, { v: 1, t: 'quality', sid: peer.sid, id: line.wish, mid: line.mid, layer, ...(line.delay && { delay: line.delay }) });
  }

  /** @param {Peer} peer @param {ViewerMessage} message */
  #send(peer, message) {
    this.#out.push({ do: 'send', peer: peer.id, message });
  }

  /** Cameras of `peer` whose frames are overdue. @param {Peer} peer @param {number} now */
  #stale(peer, now) {
    return [...peer.lines.values()].filter((line) => now >= this.#staleAt(line)).map((line) => line.camera);
  }

  /** When a line counts as stale; Infinity where no frame is expected. @param {Line} line */
  #staleAt(line) {
    const state = this.#cameras.get(line.camera);
    const active = this.#wanted.some((wish) => wish.camera === line.camera && wish.active);
    if (!active || line.switching || line.layer === 'off' || (state && SILENT.has(state.phase))) return Infinity;
    const patience = seldom(line) ? SELDOM_MS : Math.max(line.first === null ? FIRST_FRAME_MS : STALE_MS, usual(state));
    return Math.max(line.since, line.last ?? 0) + patience;
  }

  /** When to ask the peer whether it lives, since it sends pictures seldom. @param {Peer} peer */
  #askAt(peer) {
    if (peer.dead || !peer.open || peer.probeBy) return Infinity;
    const silent = [...peer.lines.values()].filter((line) => seldom(line) && this.#staleAt(line) < Infinity);
    return Math.min(...silent.map((line) => Math.max(line.since, line.last ?? 0, peer.heardAt) + STALE_MS));
  }

  /** When a stale camera may have a new peer made for it: later each time that one brought nothing. @param {Line} line */
  #reopenAt(line) {
    return Math.max(this.#staleAt(line), this.#dark.get(line.camera)?.notBefore ?? 0);
  }

  /** Whether the new peer shows all that can be shown. @param {number} now */
  #allShown(now) {
    const lines = [...(this.#current?.lines.values() ?? [])];
    return lines.length > 0 && lines.every((line) => line.first !== null || this.#staleAt(line) === Infinity) && now > 0;
  }

  /** @param {Peer} peer @param {string} mid @param {string} camera @param {number} now */
  #addLine(peer, mid, camera, now) {
    const had = peer.lines.get(mid);
    if (had && had.camera === camera) return;
    peer.lines.set(mid, { mid, camera, layer: 'auto', delay: undefined, wish: 0, refused: '', flow: null, since: now, first: null, last: null, switching: null });
    this.#out.push({ do: 'attach', peer: peer.id, mid, camera });
  }

  /** @param {Peer} peer @param {Peer['stage']} stage @param {number} at */
  #stage(peer, stage, at) {
    peer.stage = stage;
    peer.at = at;
  }

  /** @param {Peer} peer @param {string} reason */
  #drop(peer, reason) {
    if (peer === this.#next) this.#next = null;
    if (peer === this.#current) this.#current = null;
    if (peer === this.#retiring?.peer) this.#retiring = null;
    for (const line of peer.lines.values()) this.#out.push({ do: 'detach', peer: peer.id, camera: line.camera });
    const told = peer.stage !== 'preparing' && peer.stage !== 'ready';
    this.#out.push({ do: 'close', peer: peer.id, bye: told ? { v: 1, t: 'bye', sid: peer.sid, reason: reason.slice(0, 200) } : null, door: peer.door });
  }

  /** @param {number} id */
  #peer(id) {
    return [this.#current, this.#next, this.#retiring?.peer].find((peer) => peer?.id === id) ?? null;
  }

  /** @param {string | null} sid */
  #bySid(sid) {
    return [this.#current, this.#next, this.#retiring?.peer].find((peer) => peer && peer.sid === sid) ?? null;
  }

  #lines() {
    return [this.#current, this.#next].flatMap((peer) => [...(peer?.lines.values() ?? [])]);
  }

  #active() {
    return this.#wanted.filter((wish) => wish.active).map((wish) => wish.camera);
  }

  /** @param {string} camera @param {number} now */
  #isRefused(camera, now) {
    return now < (this.#refused.get(camera)?.until ?? 0);
  }

  #doorCount() {
    return [...this.#doors.values()].filter((door) => door.ready).length;
  }

  /** How long nobody has been able to see the page, ms. @param {number} now */
  #hiddenFor(now) {
    return this.#visible || this.#keep ? 0 : Math.max(1, now - this.#hiddenAt);
  }

  /** @param {number} now */
  #unwantedFor(now) {
    return this.#unwantedSince === null ? 0 : now - this.#unwantedSince;
  }

  /**
   * When `tick` is due next.
   * @param {number} now
   * @returns {number | null} ms on the clock of `handle`, later than `now`; null for never
   */
  nextDeadline(now) {
    /** @type {number[]} */
    const times = [];
    const { current, next } = { current: this.#current, next: this.#next };
    if (this.#unwantedSince !== null) {
      if (current || next) times.push(this.#unwantedSince + UNWANTED_MS);
    } else if (this.#visible || this.#keep) {
      if (next?.stage === 'ready' && this.#pick()) times.push(this.#begun ? this.#retryAt : 0);
      if (next?.stage === 'preparing' || next?.stage === 'ready') times.push(next.at + READY_MS);
      if (next?.stage === 'offered') times.push(next.at + ANSWER_MS);
      if (next?.stage === 'answered') times.push(next.at + Math.min(CONNECT_MAX_MS, CONNECT_MS + 1500 * this.#failures));
      if (!next) for (const line of this.#alive?.lines.values() ?? []) times.push(this.#reopenAt(line));
    } else if (current || next) {
      times.push(this.#hiddenAt + HIDE_MS, this.#hiddenAt + LEAVE_MS);
    }
    if (current?.probeBy && !current.dead) times.push(current.probeBy);
    if (current && (this.#visible || this.#keep)) times.push(this.#askAt(current));
    if (current?.adding && !current.dead) times.push(current.addingSince + OFFER_MS);
    if (this.#retiring) times.push(this.#retiring.until);
    // What is due already was seen to by the last `handle`.
    const coming = times.filter((time) => time > now && time < Infinity);
    return coming.length ? Math.min(...coming) : null;
  }

  get #alive() {
    return this.#current?.dead ? null : this.#current;
  }

  /** The peer that lives, and its line of a camera. @param {string} camera */
  #carrying(camera) {
    const current = this.#alive;
    return { current, line: [...(current?.lines.values() ?? [])].find((each) => each.camera === camera) };
  }

  /**
   * What to tell a person about one camera.
   * @param {string} camera
   * @param {number} now
   * @returns {CameraView}
   */
  view(camera, now) {
    const state = this.#cameras.get(camera);
    const seen = this.#seen.get(camera);
    const { current, line } = this.#carrying(camera);
    const age = seen ? now - seen.last : null;
    const patience = line && seldom(line) ? SELDOM_MS : Math.max(STALE_MS, usual(state));
    /** @param {CameraView['phase']} phase @param {string} [text] @returns {CameraView} */
    const view = (phase, text = '') => ({ phase, text, age });
    if (this.#blocked) return view(this.#blocked, this.#told);
    if (age !== null && age < patience && (line || this.#retiring)) return view('live');
    if (this.#failures >= 2 && this.#unreachable) return view('unreachable', 'agent');
    if (!current && this.#agent.up === false) return view('unreachable', 'agent');
    const refused = this.#refused.get(camera);
    if (refused && now < refused.until) return view('refused', refused.text);
    if (current && state && (state.phase === 'retrying' || state.phase === 'failed')) return view('off', state.text);
    if (current && state?.phase === 'starting') return view('starting', state.text);
    // Not sent while nobody looks, or sent for again a moment ago: nothing needs to be said.
    const pausing = !this.#active().includes(camera) || this.#hiddenFor(now) > 0 || (line && now - line.since < STALE_MS);
    if (current && line?.first && pausing) return view('resuming');
    if (!this.#doorCount() && [...this.#doors.values()].some((door) => door.down)) return view('unreachable', 'broker');
    if (current && !line && this.#active().indexOf(camera) >= MAX_LINES) return view('refused', `${MAX_LINES} cameras at once: open this one`);
    return view(age === null ? 'connecting' : 'reconnecting', current ? '' : this.#told);
  }

  /**
   * What the connection knows of who is at fault where a picture is bad, for `fault.js`.
   * @param {string} camera
   * @param {number} now
   */
  facts(camera, now) {
    const { current, line } = this.#carrying(camera);
    const broker = this.#doors.get('mqtt');
    return {
      view: this.view(camera, now),
      mid: line?.mid ?? null,
      flow: line?.flow ?? null,
      // Data comes through in both directions, or did a moment ago.
      answers: current !== null && current.open && now - current.heardAt < SELDOM_PROBE_MS,
      stuck: this.#stuck,
      broker: /** @type {'' | 'up' | 'down'} */ (!broker ? '' : broker.ready ? 'up' : broker.down ? 'down' : ''),
      up: this.#agent.up,
    };
  }

  /** A summary for the debugging object and the tests. */
  get summary() {
    /** @param {Peer | null | undefined} peer */
    const brief = (peer) =>
      peer
        ? {
            id: peer.id,
            sid: peer.sid,
            stage: peer.stage,
            door: peer.door,
            open: peer.open && peer.greeted,
            dead: peer.dead,
            lines: [...peer.lines.values()].map(({ mid, camera, layer, flow }) => ({ mid, camera, layer, flow })),
          }
        : null;
    return {
      current: brief(this.#current),
      next: brief(this.#next),
      retiring: brief(this.#retiring?.peer),
      failures: this.#failures,
      agent: { ...this.#agent },
    };
  }
}

/** The longest that a camera needs for a few frames, ms. @param {CameraState | undefined} state */
const usual = (state) => (state?.fps ? 3000 / state.fps : 0);

/** Whether the agent leaves out pictures of a line on purpose, or may. @param {Line} line */
const seldom = (line) => Boolean(line.flow && line.flow.limit !== 'none' && line.flow.limit !== 'wish');
