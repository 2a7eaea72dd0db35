// @ts-check
/**
 * The agent's clock as seen from here, from ping and pong: the sample with the smallest round trip is the best, and half
 * of that round trip is how wrong it can be.
 */
export class AgentClock {
  static #KEEP_MS = 120_000;
  static #KEEP = 60;
  /** How far two ordinary crystal clocks drift apart: 100 ppm. */
  static #DRIFT = 1e-4;
  /** @type {{offset: number, rtt: number, at: number}[]} */
  #samples = [];

  /**
   * @param {number} sentAt when the ping left, ms on the page's clock
   * @param {number} receivedAt when the pong came, ms on the page's clock
   * @param {number} agentNow the agent's Unix time in ms, as in the pong
   */
  add(sentAt, receivedAt, agentNow) {
    const rtt = receivedAt - sentAt;
    if (!(rtt >= 0) || !Number.isFinite(agentNow)) return;
    this.#samples.push({ offset: agentNow - (sentAt + receivedAt) / 2, rtt, at: receivedAt });
    this.#samples = this.#samples.filter((sample) => receivedAt - sample.at <= AgentClock.#KEEP_MS).slice(-AgentClock.#KEEP);
  }

  /**
   * @param {number} now ms on the page's clock
   * @returns {{offset: number, uncertainty: number, rtt: number} | null} `offset` turns the page's ms into the agent's
   *   Unix ms; `uncertainty` is ± ms; null while nothing is measured
   */
  estimate(now) {
    let best = null;
    for (const { offset, rtt, at } of this.#samples) {
      const uncertainty = rtt / 2 + Math.max(0, now - at) * AgentClock.#DRIFT;
      if (!best || uncertainty < best.uncertainty) best = { offset, uncertainty, rtt };
    }
    return best;
  }

  /** The last round trip in ms; null while nothing is measured. */
  get lastRtt() {
    return this.#samples.at(-1)?.rtt ?? null;
  }

  /** Forget everything: the agent was restarted, perhaps on another board, or its clock was set. */
  reset() {
    this.#samples = [];
  }
}
