// @ts-check
/**
 * One agent as the elements see it: its cameras, their pictures and their state. It carries out what `link.js` decides, and
 * is shared by all elements that show cameras of the same agent, so that they share one peer connection.
 */
import { AgentClock } from './clock.js';
import { retryDelay } from './backoff.js';
import { preference } from './dom.js';
import { wishFor } from './layers.js';
import { Link } from './link.js';
import { early, Peer, playsH264 } from './peer.js';
import { noSettings } from './settings.js';
import { Store } from './store.js';
import { WhepDoor } from './whep.js';

/**
 * @typedef {import('./types.js').CameraState} CameraState
 * @typedef {import('./types.js').CameraView} CameraView
 * @typedef {import('./types.js').Door} Door
 * @typedef {import('./types.js').Hello} Hello
 * @typedef {import('./types.js').LinkEffect} LinkEffect
 * @typedef {import('./types.js').LinkEvent} LinkEvent
 * @typedef {import('./settings.js').Settings} Settings
 *
 * @typedef {object} AgentState
 * @property {boolean} known whether the agent has said what it is
 * @property {boolean} reached false once an attempt to ask it failed, until it answers
 * @property {boolean} foreign whether something else than an agent answers there, as a static host does
 * @property {string} device
 * @property {string} title
 * @property {string} version
 * @property {string} epoch
 * @property {readonly CameraState[]} cameras
 * @property {boolean} signIn whether it asks who is there
 * @property {string} signInText why the last try did not do
 * @property {'token' | 'broker'} signInFor
 * @property {string} lna whether this page may reach the local network: `granted`, `prompt`, `denied`, '' where unknown
 * @property {import('./words.js').Words | null} consent what the person is to be told before the browser asks for that
 * @property {string} door through which the present session was made
 * @property {string} board what ails the board, '' while nothing does
 * @property {boolean} saver whether every camera sends its smallest picture
 * @property {Readonly<Record<string, import('./fault.js').Fault | null>>} faults who is at fault where a camera's picture is bad
 * @property {import('./fault.js').Fault | null} fault the same for all cameras together
 * @property {number} devices how many sensors and actuators it has
 * @property {import('./desk.js').Desk | null} desk where they are read and driven, once it is loaded
 *
 * @typedef {{peer: number, mid: string, stream: MediaStream}} Attachment a camera's picture on one peer
 * @typedef {object} Sink an element that shows a camera
 * @property {(attachment: Attachment) => void} attach show this once it has a frame
 * @property {(peer: number) => void} detach what came with this peer ends; the last picture should stay
 * @property {(view: CameraView) => void} view
 */

const HEARTBEAT_MS = 500;
const SLEPT_MS = 5000;
const SPARE_MS = 60_000;
const SECOND_DOOR_MS = 3000;
const PINGS_MS = [0, 60, 150, 400, 900];

/** @type {Map<string, Agent>} */
const agents = new Map();

/**
 * The agent with these settings; the same object for the same settings.
 * @param {Settings} settings
 */
export function agentFor(settings) {
  const key = JSON.stringify(settings);
  let agent = agents.get(key);
  if (!agent) agents.set(key, (agent = new Agent(settings)));
  return agent;
}

export class Agent {
  /** @type {Store<AgentState>} */
  store = new Store(
    /** @type {AgentState} */ ({
      known: false,
      reached: true,
      foreign: false,
      device: '',
      title: '',
      version: '',
      epoch: '',
      cameras: [],
      signIn: false,
      signInText: '',
      signInFor: 'token',
      lna: '',
      consent: null,
      door: '',
      board: '',
      saver: savesData(),
      faults: {},
      fault: null,
      devices: 0,
      desk: null,
    }),
  );
  clock = new AgentClock();
  settings;
  #link = new Link();
  /** @type {Map<string, Door>} */
  #doors = new Map();
  /** @type {Map<number, Peer>} */
  #peers = new Map();
  /** @type {Peer | null} */
  #spare = null;
  /** @type {RTCIceServer[]} */
  #iceServers = [];
  /** @type {Set<Watch>} */
  #watches = new Set();
  /** @type {Map<string, Attachment[]>} by camera, oldest first */
  #attached = new Map();
  /** @type {LinkEvent[]} */
  #queue = [];
  #busy = false;
  #timer = 0;
  #started = false;
  #asked = 0;
  #asking = false;
  #wantedQueued = false;
  /** Whether the door of MQTT is open or being opened. */
  #mqtt = false;
  #beat = 0;
  #pinged = 0;
  #pingIds = 0;
  #hiddenAt = 0;
  /** @type {import('./survey.js').Survey | null} */
  #survey = null;
  /** Whether pings come often, for a panel that shows the delay. */
  measuring = 0;
  /** Whether somebody drives by these pictures; `wantedChanged` tells the agent. */
  driving = false;
  #viewer = 'web-' + Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => (byte % 36).toString(36)).join('');

  /** @param {Settings} [settings] */
  constructor(settings = noSettings()) {
    this.settings = { ...settings };
  }

  /** Begin: ask the agent who it is, open the doors. Does nothing the second time. */
  start() {
    if (this.#started) return;
    this.#started = true;
    // Making a peer connection takes longer than asking the agent for its cameras: both at once.
    this.#spare = early.peer ?? new Peer();
    early.peer = null;
    document.addEventListener('visibilitychange', () => this.#visibility());
    window.addEventListener('pageshow', (event) => event.persisted && this.#woke());
    window.addEventListener('online', () => this.#woke());
    window.addEventListener('offline', () => this.#tellViews());
    window.addEventListener('pagehide', () => this.#leave());
    document.addEventListener('enterpictureinpicture', () => this.#visibility(), true);
    document.addEventListener('leavepictureinpicture', () => this.#visibility(), true);
    this.#beat = performance.now();
    setInterval(() => this.#heartbeat(), HEARTBEAT_MS);
    this.#visibility();
    // What may be asked for next: then the agent that serves it may be away.
    setTimeout(() => void this.#loadSurvey(), 1500);
    void this.#approach();
  }

  async #loadSurvey() {
    try {
      const [{ Survey }] = await Promise.all([import('./survey.js'), import('./details.js'), import('./snapshot.js'), import('./glide.js')]);
      this.#survey = new Survey(this, this.#link, () => [...this.#watches].flatMap((watch) => (watch.active ? watch.camera : [])));
    } catch {
      setTimeout(() => void this.#loadSurvey(), 10_000);
    }
  }

  /** A page from elsewhere needs the browser's permission, and the person is told why before the browser asks. */
  async #approach() {
    const { src, broker } = this.settings;
    if (!isOwn(src)) {
      const consent = await import('./local-network.js').then(({ explanation }) => explanation(src || broker)).catch(() => null);
      if (consent) return this.store.set({ consent });
    }
    this.#knock();
  }

  /** The person has read it, and goes on. */
  consent() {
    this.store.set({ consent: null });
    this.#knock();
  }

  #knock() {
    const { src, broker, device, door } = this.settings;
    if (src) {
      if (door === 'mqtt' || (broker && device)) void this.#config(true);
      void this.#ask();
    } else void this.#openMqtt(broker, device);
  }

  /** Prepare a peer for so many cameras, so that the next connection is quicker. @param {number} lines */
  warm(lines) {
    this.start();
    if (lines < 1 || this.#peers.size) return;
    const fresh = this.#spare && this.#spare.lines === lines && performance.now() - this.#spare.bornAt < SPARE_MS;
    if (fresh) return;
    if (!this.#spare || this.#spare.lines) {
      this.#spare?.close();
      this.#spare = new Peer(this.#iceServers);
    } else this.#spare.useServers(this.#iceServers);
    void this.#spare.prepare(lines).catch(() => {});
  }

  /**
   * Show a camera.
   * @param {string} camera
   * @param {Sink} sink
   */
  watch(camera, sink) {
    this.start();
    const watch = new Watch(this, camera, sink);
    this.#watches.add(watch);
    for (const attachment of this.#attached.get(camera) ?? []) sink.attach(attachment);
    this.wantedChanged();
    return watch;
  }

  /** @param {Watch} watch */
  unwatch(watch) {
    this.#watches.delete(watch);
    this.wantedChanged();
  }

  /** Elements come and go together: one decision for all that happens in a turn. */
  wantedChanged() {
    if (this.#wantedQueued) return;
    this.#wantedQueued = true;
    queueMicrotask(() => {
      this.#wantedQueued = false;
      /** @type {Map<string, boolean>} */
      const wanted = new Map();
      for (const watch of this.#watches) wanted.set(watch.camera, (wanted.get(watch.camera) ?? false) || watch.active);
      if ([...wanted.values()].some(Boolean) && !this.#peers.size) mark('edge:start');
      const { saver, devices, cameras: all } = this.store.state;
      /** @type {import('./types.js').Wish['delay']} */
      const delay = this.driving ? 'least' : undefined;
      const cameras = [...wanted].map(([camera, active]) => ({ camera, active, delay, layer: wishFor(this.layers(camera), saver, this.quality(camera)) }));
      this.#dispatch({ type: 'wanted', cameras, data: devices > 0 && !all.length });
    });
  }

  /** The renditions of a camera, best first. @param {string} camera */
  layers(camera) {
    return this.store.state.cameras.find((each) => each.name === camera)?.layers ?? [];
  }

  /** What the person wants of a camera: `auto` or a layer's name. @param {string} camera */
  quality(camera) {
    return preference.get(`quality.${this.store.state.device}.${camera}`, 'auto');
  }

  /** @param {string} camera @param {string} layer `auto` or a layer's name */
  setQuality(camera, layer) {
    preference.set(`quality.${this.store.state.device}.${camera}`, layer);
    this.wantedChanged();
  }

  /** @param {boolean} on */
  setSaver(on) {
    preference.set('saver', on ? 'on' : 'off');
    this.store.set({ saver: on });
    this.wantedChanged();
  }

  /** How the agent says that it sends a camera. @param {string} camera */
  flow(camera) {
    return this.#link.facts(camera, performance.now()).flow;
  }

  /** @param {number} peer @param {string} mid @param {boolean} [decoded] only, not presented as far as is known */
  frame(peer, mid, decoded) {
    this.#dispatch({ type: 'frame', peer, mid, decoded });
  }

  /** @param {string} camera */
  view(camera) {
    return this.#link.view(camera, performance.now());
  }

  /** Try again at once, also after a refusal. */
  retry() {
    this.#dispatch({ type: 'retry' });
    if (!this.store.state.known) void this.#ask();
  }

  /** The token was right. @param {string} token */
  signedIn(token) {
    // A page from elsewhere gets no cookie: there the token goes along with every request.
    if (!isOwn(this.settings.src)) this.settings.token = token;
    this.store.set({ signIn: false, signInText: '' });
    this.#dispatch({ type: 'authorized' });
    void this.#ask();
  }

  /**
   * What the browser knows about a camera's reception.
   * @param {string} camera
   */
  async reading(camera) {
    const attachment = this.#attached.get(camera)?.at(-1);
    const peer = attachment && this.#peers.get(attachment.peer);
    if (!attachment || !peer) return null;
    const [{ readStats }, report] = await Promise.all([import('./stats.js'), peer.stats()]);
    return { peer: attachment.peer, reading: readStats(report, attachment.mid) };
  }

  get summary() {
    return this.#link.summary;
  }

  // ------------------------------------------------------------------ the agent over HTTP

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const headers = this.settings.token ? { Authorization: `Bearer ${this.settings.token}` } : undefined;
      this.#asked += 1;
      const asked = this.settings.src === new URL('./', document.baseURI).href ? early.hello : null;
      early.hello = null;
      const response = await (asked ?? fetch(new URL('api/hello', this.settings.src), { headers, signal: AbortSignal.timeout(4000), cache: 'no-store' }));
      if (response.status === 401 || response.status === 403) return this.#unauthorized('token', this.settings.token ? 'That token is not right.' : '');
      if (response.status === 404 || (response.ok && !response.headers.get('Content-Type')?.includes('json'))) this.store.set({ foreign: true });
      if (!response.ok) throw new Error(`the agent answered ${response.status}`);
      const hello = await response.json();
      if (hello?.t !== 'hello') throw new Error('not an agent');
      this.#asked = 1;
      this.#hello(hello);
      this.#dispatch({ type: 'hello', hello });
      if (!this.#doors.has('whep') && this.settings.door !== 'mqtt') {
        this.#addDoor('whep', (events) => new WhepDoor({ base: this.settings.src, token: this.settings.token }, events));
        if (this.settings.door !== 'whep') setTimeout(() => void this.#config(false), SECOND_DOOR_MS);
      }
    } catch {
      if (this.store.state.known) return;
      const { src } = this.settings;
      const lna = isOwn(src) ? '' : await import('./local-network.js').then(({ permission }) => permission(src), () => '');
      this.store.set({ reached: false, lna });
      setTimeout(() => document.visibilityState === 'visible' && void this.#ask(), retryDelay(this.#asked, Math.random));
    } finally {
      this.#asking = false;
    }
  }

  /** Open the second door: MQTT, where the agent has a broker. @param {boolean} now */
  async #config(now) {
    if (this.#mqtt) return;
    const { src, broker, device } = this.settings;
    if (broker && device) return void this.#openMqtt(broker, device);
    try {
      const response = await fetch(new URL('api/config', src));
      const config = response.ok ? await response.json() : null;
      if (config?.mqtt?.url) void this.#openMqtt(config.mqtt.url, config.device);
    } catch {
      if (now) setTimeout(() => void this.#config(true), 1000);
    }
  }

  /** @param {string} url @param {string} device */
  async #openMqtt(url, device) {
    if (!url || !device || this.#mqtt) return;
    this.#mqtt = true;
    const load = () => import('./vendor/mqtt.esm.js').then((module) => module.default);
    const { username, password } = this.settings;
    try {
      const [{ MqttDoor, reachableBroker }] = await Promise.all([import('./mqtt.js'), load().catch(() => {})]);
      const near = url === this.settings.broker ? url : reachableBroker(url, location.hostname);
      // A site's broker knows each browser by a user of its own, and lets it speak by that name only.
      const viewer = /^v-[0-9a-f]{12}$/.test(username) ? username : this.#viewer;
      const options = { url: near, device, viewer, username, password, load };
      this.#addDoor('mqtt', (events) => new MqttDoor(options, events));
    } catch {
      this.#mqtt = false;
      setTimeout(() => void this.#openMqtt(url, device), retryDelay(3, Math.random));
    }
  }

  /** @param {string} name @param {(events: import('./types.js').DoorEvents) => Door} make */
  #addDoor(name, make) {
    const door = make({
      event: (event) => this.#dispatch(event),
      unauthorized: (text) => this.#unauthorized(name === 'mqtt' ? 'broker' : 'token', name === 'mqtt' ? text : ''),
    });
    this.#doors.set(name, door);
    door.open();
  }

  /** @param {'token' | 'broker'} signInFor @param {string} text */
  #unauthorized(signInFor, text) {
    // A broker that refuses us matters only where there is no other way.
    if (signInFor === 'broker' && this.settings.src) return;
    this.store.set({ signIn: true, signInFor, signInText: text, reached: true });
  }

  /** @param {Hello} hello */
  #hello(hello) {
    const { device, title, version, epoch, cameras, devices = 0 } = hello;
    if (epoch !== this.store.state.epoch) this.clock.reset();
    this.#iceServers = hello.ice_servers ?? [];
    const board = epoch === this.store.state.epoch ? this.store.state.board : '';
    this.store.set({ known: true, reached: true, foreign: false, signIn: false, device, title, version, epoch, cameras, devices, board });
    this.wantedChanged();
  }

  /** @param {import('./types.js').State} state */
  #states({ cameras: changed, board }) {
    if (typeof board === 'string') this.store.set({ board });
    if (!changed.length) return;
    const byName = new Map(changed.map((camera) => [camera.name, camera]));
    this.store.set({ cameras: this.store.state.cameras.map((camera) => byName.get(camera.name) ?? camera) });
    this.wantedChanged();
  }

  // ------------------------------------------------------------------ events and effects

  /** @param {LinkEvent} event */
  #dispatch(event) {
    if (event.type === 'message') {
      const { message } = event;
      if (message.t === 'hello') this.#hello(message);
      else if (message.t === 'state') this.#states(message);
      else if (message.t === 'pong') this.clock.add(message.at, performance.now(), message.now);
      else if (message.t === 'error' && (message.code === 401 || message.code === 403)) this.#unauthorized('token', '');
    }
    this.#queue.push(event);
    if (this.#busy) return;
    this.#busy = true;
    let quiet = true;
    try {
      for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
        if (next.type !== 'frame') quiet = false;
        for (const effect of this.#link.handle(next, performance.now())) this.#do(effect);
      }
    } finally {
      this.#busy = false;
    }
    this.#schedule();
    // Frames come often, and mostly change nothing that is said.
    if (!quiet || event.type === 'frame') this.#tellViews();
  }

  #schedule() {
    clearTimeout(this.#timer);
    const now = performance.now();
    const due = this.#link.nextDeadline(now);
    if (due !== null) this.#timer = window.setTimeout(() => this.#dispatch({ type: 'tick' }), Math.max(0, due - now) + 1);
  }

  #tellViews() {
    const now = performance.now();
    for (const watch of this.#watches) watch.tell(this.#link.view(watch.camera, now));
  }

  /** @param {LinkEffect} effect */
  #do(effect) {
    if (effect.do === 'open') return this.#open(effect.peer, effect.lines);
    if (effect.do === 'refresh') return this.settings.src ? void this.#ask() : undefined;
    const peer = this.#peers.get(effect.peer);
    if (!peer) return;
    switch (effect.do) {
      case 'extend':
        this.#prepare(effect.peer, peer, effect.lines, true);
        break;
      case 'rollback':
        void peer.rollback();
        break;
      case 'offer': {
        const { sid, n, epoch, cameras } = effect;
        if (!playsH264()) {
          // Where this cannot be loaded, the attempt times out and is repeated.
          void import('./codec.js').then(({ refusal }) => this.#dispatch({ type: 'message', peer: effect.peer, message: refusal(sid, navigator.userAgent) }), () => {});
          break;
        }
        const offer = /** @type {const} */ ({ v: 1, t: 'offer', sid, n, ...(epoch ? { epoch } : {}), sdp: peer.takeOffer(), cameras });
        mark('edge:offer', { peer: effect.peer, door: effect.door });
        if (effect.door === 'channel') peer.send(JSON.stringify(offer));
        else this.#doors.get(effect.door)?.offer(effect.peer, offer);
        break;
      }
      case 'answer':
        mark('edge:answer', { peer: effect.peer });
        peer.accept(effect.sdp).catch((error) => this.#dispatch({ type: 'broken', peer: effect.peer, reason: `answer not usable: ${error}` }));
        break;
      case 'candidates':
        peer.addCandidates(effect.candidates);
        break;
      case 'send':
        peer.send(JSON.stringify(effect.message));
        break;
      case 'ping':
        this.#ping(peer);
        break;
      case 'attach': {
        const stream = peer.stream(effect.mid);
        if (!stream) break;
        const attachment = { peer: effect.peer, mid: effect.mid, stream };
        this.#attached.set(effect.camera, [...(this.#attached.get(effect.camera) ?? []), attachment]);
        for (const watch of this.#watches) if (watch.camera === effect.camera) watch.sink.attach(attachment);
        break;
      }
      case 'detach':
        this.#attached.set(
          effect.camera,
          (this.#attached.get(effect.camera) ?? []).filter((each) => each.peer !== effect.peer),
        );
        for (const watch of this.#watches) if (watch.camera === effect.camera) watch.sink.detach(effect.peer);
        break;
      case 'promoted':
        mark('edge:connected', { peer: effect.peer, door: effect.door });
        this.store.set({ door: effect.door });
        break;
      case 'close':
        this.#peers.delete(effect.peer);
        this.store.state.desk?.left(peer);
        peer.events = null;
        if (effect.bye) this.#bye(peer, effect.peer, effect.door, effect.bye);
        // What was said over the channel needs a moment to leave.
        setTimeout(() => peer.close(), effect.bye ? 100 : 0);
        break;
    }
  }

  /** @param {number} id @param {number} lines */
  #open(id, lines) {
    const spare = this.#spare;
    this.#spare = null;
    const usable = spare && (spare.lines === lines || spare.lines === 0) && (spare.lines === 0 || performance.now() - spare.bornAt < SPARE_MS);
    if (spare && !usable) spare.close();
    const peer = usable ? spare : new Peer(this.#iceServers);
    if (usable && !spare.lines) spare.useServers(this.#iceServers);
    this.#peers.set(id, peer);
    peer.events = {
      connection: (state) => this.#dispatch({ type: 'connection', peer: id, state }),
      channel: (open) => this.#dispatch({ type: 'channel', peer: id, open }),
      message: (text) => this.#fromChannel(id, text),
      candidates: (candidates, end) => this.#trickle(id, peer, candidates, end),
    };
    this.#prepare(id, peer, peer.lines ? 0 : lines, false);
  }

  /** @param {number} id @param {Peer} peer @param {number} lines @param {boolean} more */
  #prepare(id, peer, lines, more) {
    const before = more ? peer.lines : 0;
    (lines || !peer.lines ? peer.prepare(lines) : peer.settled()).then(
      () => this.#peers.has(id) && this.#dispatch({ type: 'prepared', peer: id, mids: peer.mids.slice(before) }),
      (error) => this.#dispatch({ type: 'broken', peer: id, reason: String(error) }),
    );
  }

  /** @param {number} id @param {string} text */
  #fromChannel(id, text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message?.v !== 1 || typeof message.t !== 'string') return;
    this.#dispatch({ type: 'message', message, peer: id });
    const peer = this.#peers.get(id);
    if (!peer || message.t !== 'hello') return;
    for (const delay of PINGS_MS) setTimeout(() => this.#ping(peer), delay);
    if (message.devices) void this.#join(id, peer);
  }

  /** Devices are read and driven over channels of their own. @param {number} id @param {Peer} peer */
  async #join(id, peer) {
    try {
      const { Desk } = await import('./desk.js');
      const desk = this.store.state.desk ?? new Desk(this);
      this.store.set({ desk });
      if (this.#peers.has(id)) desk.join(peer);
    } catch {
      setTimeout(() => this.#peers.has(id) && void this.#join(id, peer), 3000);
    }
  }

  /** @param {number} id @param {Peer} peer @param {import('./types.js').Candidate[]} candidates @param {boolean} end */
  #trickle(id, peer, candidates, end) {
    const { current, next } = this.#link.summary;
    const session = next?.id === id ? next : current?.id === id ? current : null;
    // Connected already: more ways are of use only to a relayed or unlucky connection, and then they came before.
    if (!session || peer.pc.connectionState === 'connected') return;
    this.#doors.get(session.door)?.send(id, { v: 1, t: 'ice', sid: session.sid, candidates, end });
  }

  /** @param {Peer} peer */
  #ping(peer) {
    const { current } = this.#link.summary;
    if (!current?.open || this.#peers.get(current.id) !== peer) return;
    const { sid } = current;
    this.#pinged = performance.now();
    peer.send(JSON.stringify({ v: 1, t: 'ping', sid, id: ++this.#pingIds, at: performance.now() }));
  }

  // ------------------------------------------------------------------ time passes

  #heartbeat() {
    const now = performance.now();
    if (now - this.#beat > SLEPT_MS && document.visibilityState === 'visible') this.#woke();
    this.#beat = now;
    if (document.visibilityState !== 'visible') return;
    const current = this.#link.summary.current;
    const peer = current && this.#peers.get(current.id);
    if (peer && current.open && now - this.#pinged > (this.measuring ? 1000 : 10_000)) this.#ping(peer);
    this.#tellViews();
    this.#survey?.tick(now, current?.id ?? -1, peer ?? null);
  }

  #visibility() {
    const visible = document.visibilityState === 'visible';
    const keep = document.pictureInPictureElement !== null && document.pictureInPictureElement !== undefined;
    if (!visible) this.#hiddenAt = performance.now();
    else if (this.#hiddenAt && performance.now() - this.#hiddenAt > 30_000) for (const door of this.#doors.values()) door.wake();
    if (visible) this.#beat = performance.now();
    this.#dispatch({ type: 'visible', visible, keep });
    if (visible && this.#started && this.settings.src && !this.store.state.known && this.#asked) void this.#ask();
  }

  #woke() {
    for (const door of this.#doors.values()) door.wake();
    this.#dispatch({ type: 'woke' });
  }

  /** The page goes: say so, so that the agent need not wait for silence. */
  #leave() {
    const { current, next } = this.#link.summary;
    for (const session of [current, next]) {
      const peer = session && this.#peers.get(session.id);
      if (!session || !peer || session.stage === 'preparing' || session.stage === 'ready') continue;
      // What is sent over a channel may die with the page; a request that is kept alive does not.
      const bye = /** @type {const} */ ({ v: 1, t: 'bye', sid: session.sid, reason: 'page closed' });
      if (session.door === 'whep') this.#doors.get('whep')?.send(session.id, bye);
      else this.#bye(peer, session.id, session.door, bye);
    }
  }

  /**
   * End a session: over its channel where there is one, else through the door it came by.
   * @param {Peer} peer @param {number} id @param {string} door @param {import('./types.js').Bye} bye
   */
  #bye(peer, id, door, bye) {
    if (peer.send(JSON.stringify(bye))) this.#doors.get(door)?.forget(id);
    else this.#doors.get(door)?.send(id, bye);
  }
}

/** One element's interest in one camera. */
export class Watch {
  camera;
  /** @type {Sink} */
  sink;
  #agent;
  #active = true;
  #said = '';
  #toldAt = 0;

  /** @param {Agent} agent @param {string} camera @param {Sink} sink */
  constructor(agent, camera, sink) {
    this.#agent = agent;
    this.camera = camera;
    this.sink = sink;
  }

  get active() {
    return this.#active;
  }

  /** Whether the picture is needed now. */
  set active(active) {
    if (this.#active === active) return;
    this.#active = active;
    this.#agent.wantedChanged();
  }

  /** A frame was presented. @param {Attachment} attachment @param {boolean} first of this attachment */
  frame(attachment, first) {
    const now = performance.now();
    if (!first && now - this.#toldAt < 200) return;
    this.#toldAt = now;
    this.#agent.frame(attachment.peer, attachment.mid);
  }

  /** @param {CameraView} view */
  tell(view) {
    const key = `${view.phase} ${view.text} ${view.phase === 'live' ? '' : Math.floor((view.age ?? 0) / 1000)}`;
    if (key === this.#said) return;
    this.#said = key;
    this.sink.view(view);
  }

  close() {
    this.#agent.unwatch(this);
  }
}

/** Whether it is where the page came from. @param {string} src */
const isOwn = (src) => src !== '' && new URL(src).origin === location.origin;

/** Whether data are to be saved: as the person chose, else as the browser was told. */
function savesData() {
  const { connection } = /** @type {{connection?: {saveData?: boolean}}} */ (navigator);
  return preference.get('saver', connection?.saveData ? 'on' : 'off') === 'on';
}

/**
 * Time marks for measurements; the latest of each name stays.
 * @param {string} name @param {object} [detail]
 */
export function mark(name, detail) {
  performance.clearMarks(name);
  performance.mark(name, { detail });
}
