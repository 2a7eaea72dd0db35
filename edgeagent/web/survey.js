// @ts-check
/**
 * What the browser counts, twice a second: who is at fault where a picture is bad (fault.js) is told to the store, and how long
 * pictures are to be held back (buffer.js) to the peer, and to the agent where they are held for too long.
 */
import { BufferTarget, Held } from './buffer.js';
import { faultOf, FaultWatch, together } from './fault.js';
import './health.js';
import { readStats } from './stats.js';
import { titleOf } from './words.js';

/**
 * @typedef {import('./fault.js').Fault} Fault
 * @typedef {import('./stats.js').Reading} Reading
 */

const JUDGE_MS = 2000;
/** The number of what is said beside the wishes of link.js, which count from 1. */
const ASIDE = Number.MAX_SAFE_INTEGER;
/** Where nothing is known of the path. */
const RTT_MS = 50;

export class Survey {
  #agent;
  #link;
  #cameras;
  #watch = new FaultWatch();
  #buffer = new BufferTarget();
  /** @type {Map<string, Held>} by peer and mid */
  #held = new Map();
  #reading = false;
  /** @type {Map<string, number>} frames, by peer and mid */
  #decoded = new Map();
  #judgedAt = 0;
  /** @type {Map<string, {before: Reading | null, after: Reading | null}>} by peer and mid */
  #readings = new Map();

  /** @param {import('./agent.js').Agent} agent @param {import('./link.js').Link} link @param {() => string[]} cameras whose pictures are needed */
  constructor(agent, link, cameras) {
    this.#agent = agent;
    this.#link = link;
    this.#cameras = cameras;
  }

  /** @param {number} now ms @param {number} id of the current peer @param {import('./peer.js').Peer | null} peer */
  tick(now, id, peer) {
    if (peer && !this.#reading) void this.#read(now, id, peer);
    const { lna, board, cameras, faults: said } = this.#agent.store.state;
    /** @type {Record<string, Fault | null>} */
    const faults = {};
    for (const camera of this.#cameras()) {
      const facts = this.#link.facts(camera, now);
      const { before = null, after = null } = this.#readings.get(`${id} ${facts.mid}`) ?? {};
      const around = { online: navigator.onLine, lna, board, camera: cameras.find((each) => each.name === camera), before, after };
      faults[camera] = this.#watch.judge(camera, faultOf({ ...facts, ...around }), now);
    }
    if (Object.keys({ ...faults, ...said }).every((camera) => faults[camera] === said[camera])) return;
    const named = cameras.filter(({ name }) => name in faults).map(({ name, title }) => ({ title: titleOf(name, title), fault: faults[name] }));
    this.#agent.store.set({ faults, fault: together(named) });
  }

  /**
   * Tell the agent by how much pictures are held for too long.
   * @param {number} now @param {number} id @param {import('./peer.js').Peer} peer @param {[string, Reading | null][]} readings by peer and mid
   */
  #hasten(now, id, peer, readings) {
    const known = this.#held;
    this.#held = new Map(readings.map(([key]) => [key, known.get(key) ?? new Held()]));
    const current = this.#link.summary.current;
    if (current?.id !== id || !current.open || this.#agent.driving) return;
    for (const { mid, layer } of current.lines) {
      const key = `${id} ${mid}`;
      const reading = readings.find(([each]) => each === key)?.[1];
      const sooner = reading && this.#held.get(key)?.take(reading, now);
      /** @type {import('./types.js').ViewerMessage} */
      const message = { v: 1, t: 'quality', sid: current.sid, id: ASIDE, mid, layer, sooner_ms: sooner || 0 };
      if (sooner && layer !== 'off') peer.send(JSON.stringify(message));
    }
  }

  /** @param {number} now @param {number} id @param {import('./peer.js').Peer} peer */
  async #read(now, id, peer) {
    this.#reading = true;
    try {
      const report = await peer.stats();
      const readings = peer.mids.map((mid) => /** @type {[string, Reading | null]} */ ([`${id} ${mid}`, readStats(report, mid)]));
      const known = readings.flatMap(([, reading]) => reading ?? []);
      if (known.length) {
        const nacks = known.reduce((sum, each) => sum + each.nacks, 0);
        const repaired = known.reduce((sum, each) => (each.repaired === null ? sum : (sum ?? 0) + each.repaired), /** @type {number | null} */ (null));
        const rtt = this.#agent.clock.estimate(now)?.rtt ?? known[0].rttMs ?? RTT_MS;
        const facts = this.#cameras().map((camera) => this.#link.facts(camera, now));
        const spread = facts.flatMap(({ mid, flow }) => (flow?.limit === 'camera' ? (mid ?? []) : []));
        const ms = this.#buffer.take({ nacks, repaired }, rtt, now);
        // One who drives would rather see a gap than what was.
        if (this.#agent.driving) peer.hold(0, new Set());
        else peer.hold(ms, new Set(spread));
        this.#hasten(now, id, peer, readings);
      }
      // Frames that are decoded but not presented (a window behind another, a tile out of sight) still say that the link works.
      const decoded = new Map(readings.map(([key, reading]) => [key, reading?.frames ?? 0]));
      for (const mid of peer.mids) {
        const key = `${id} ${mid}`;
        if ((decoded.get(key) ?? 0) > (this.#decoded.get(key) ?? Infinity)) this.#agent.frame(id, mid, true);
      }
      this.#decoded = decoded;
      if (now - this.#judgedAt < JUDGE_MS) return;
      this.#judgedAt = now;
      this.#readings = new Map(readings.map(([key, after]) => [key, { before: this.#readings.get(key)?.after ?? null, after }]));
    } catch {
      // A peer that was closed meanwhile.
    } finally {
      this.#reading = false;
    }
  }
}
