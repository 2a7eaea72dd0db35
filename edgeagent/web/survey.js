// @ts-check
/** Finds out twice a second who is at fault where a picture is bad (fault.js), and tells the store. */
import { faultOf, FaultWatch, together } from './fault.js';
import './health.js';
import { readStats } from './stats.js';
import { titleOf } from './words.js';

/**
 * @typedef {import('./fault.js').Fault} Fault
 * @typedef {import('./stats.js').Reading} Reading
 * @typedef {import('./store.js').Store<import('./agent.js').AgentState>} AgentStore
 */

const MEASURE_MS = 2000;

export class Survey {
  #store;
  #link;
  #cameras;
  #watch = new FaultWatch();
  #measuredAt = 0;
  /** @type {Map<string, {before: Reading | null, after: Reading | null}>} by peer and mid */
  #readings = new Map();

  /** @param {AgentStore} store @param {import('./link.js').Link} link @param {() => string[]} cameras whose pictures are needed */
  constructor(store, link, cameras) {
    this.#store = store;
    this.#link = link;
    this.#cameras = cameras;
  }

  /** @param {number} now ms @param {number} id of the current peer @param {import('./peer.js').Peer | null} peer */
  tick(now, id, peer) {
    if (now - this.#measuredAt >= MEASURE_MS) void this.#measure(now, id, peer);
    const { lna, board, cameras, faults: said } = this.#store.state;
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
    this.#store.set({ faults, fault: together(named) });
  }

  /** Read what the browser counts, for all cameras at once. @param {number} now @param {number} id @param {import('./peer.js').Peer | null} peer */
  async #measure(now, id, peer) {
    this.#measuredAt = now;
    const report = await peer?.stats();
    /** @type {Map<string, {before: Reading | null, after: Reading | null}>} */
    const readings = new Map();
    if (report && peer) {
      for (const mid of peer.mids) {
        const key = `${id} ${mid}`;
        readings.set(key, { before: this.#readings.get(key)?.after ?? null, after: readStats(report, mid) });
      }
    }
    this.#readings = readings;
  }
}
