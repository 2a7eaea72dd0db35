// @ts-check
/**
 * How long the browser should hold pictures back, and what to do where it does so for too long: decisions only.
 *
 * `BufferTarget`: a packet that is sent again comes a round trip late, and what follows it comes with it: without a buffer the
 * browser shows the last picture of such a bunch and throws the others away.
 *
 * | In the last two seconds                             | the target becomes                                        |
 * |-----------------------------------------------------|-----------------------------------------------------------|
 * | packets asked for again and come, more than once    | what that takes, 40 to 200 ms; never lower than it is     |
 * | some, but at one moment only, as a full queue drops | what it is                                                |
 * | none, for ten seconds and more                      | lower by 20 ms a second, down to 0                        |
 *
 * `Held`: Chromium learns from time stamps and arrivals when each picture is due. Where the way was longer for a while, it takes
 * pictures for early long after that, and holds them for longer than it means to: then the agent draws its time stamps forward.
 *
 * @typedef {import('./stats.js').Reading} Reading
 * @typedef {object} Repairs what a peer has counted so far, all its pictures together
 * @property {number} nacks requests to send again
 * @property {number | null} repaired packets that came again, probes included; null where the browser does not count them
 */

const WINDOW_MS = 2000;
const LEAST_MS = 40;
const MOST_MS = 200;
/** Until the loss is noticed and asked about: up to a picture, and browsers ask in batches. Then the way there and back. */
const NOTICED_MS = 30;
const ROUND_TRIPS = 1.25;
const QUIET_MS = 10_000;
const FALL_PER_MS = 0.02;

export class BufferTarget {
  /** ms; what `RTCRtpReceiver.jitterBufferTarget` should be. */
  ms = 0;
  /** @type {Repairs | null} */
  #before = null;
  #at = 0;
  #askedAt = -Infinity;
  #repairedAt = -Infinity;
  /** @type {number[]} moments in which packets had come again */
  #moments = [];

  /**
   * @param {Repairs} now as the peer counts; what is less than before begins anew
   * @param {number} rttMs of the path without its queue
   * @param {number} at ms
   * @returns {number} the target, ms
   */
  take({ nacks, repaired }, rttMs, at) {
    const before = this.#before && nacks >= this.#before.nacks && (repaired ?? 0) >= (this.#before.repaired ?? 0) ? this.#before : null;
    // The agent also sends old packets to probe the path: those nobody has asked for.
    if (before && nacks > before.nacks) this.#askedAt = at;
    const came = before && (repaired === null ? nacks > before.nacks : repaired > (before.repaired ?? 0));
    const asked = at - this.#askedAt <= WINDOW_MS;
    if (came && asked) {
      this.#repairedAt = at;
      this.#moments.push(at);
    }
    this.#moments = this.#moments.filter((each) => at - each < WINDOW_MS);
    const needed = Math.round(NOTICED_MS + ROUND_TRIPS * rttMs);
    if (this.#moments.length > 1) this.ms = Math.max(this.ms, LEAST_MS, Math.min(MOST_MS, needed));
    else if (at - this.#repairedAt > QUIET_MS) this.ms = Math.max(0, this.ms - Math.round((at - this.#at) * FALL_PER_MS));
    this.#before = { nacks, repaired };
    this.#at = at;
    return this.ms;
  }
}

const LOOK_MS = 2000;
const LEAST_PICTURES = 10;
/** So many looks in a row must say so. */
const LOOKS = 3;
const EXCESS_MS = 12;
const MARGIN_MS = 5;
const WAIT_MS = 6000;
const LONGEST_WAIT_MS = 120_000;

export class Held {
  /** @type {Reading | null} */
  #before = null;
  #at = 0;
  /** @type {number[]} by how many ms pictures were held for longer than meant, one number a look */
  #excesses = [];
  #asked = 0;
  #wait = WAIT_MS;
  #notBefore = -LONGEST_WAIT_MS;

  /**
   * @param {Reading} now what is counted of one line
   * @param {number} at ms
   * @returns {number} ms by which the agent should draw time stamps forward; 0 for nothing
   */
  take(now, at) {
    const before = this.#before;
    if (before && at - this.#at < LOOK_MS) return 0;
    this.#before = now;
    this.#at = at;
    const excess = before && excessMs(before, now);
    // Where packets come again or unevenly, holding pictures back is what the buffer is for.
    if (excess === null || excess < EXCESS_MS + now.jitterMs || now.nacks > (before?.nacks ?? 0)) this.#excesses = [];
    else this.#excesses.push(excess - MARGIN_MS);
    if (this.#excesses.length < LOOKS || at < this.#notBefore) return 0;
    const ms = Math.round(Math.min(...this.#excesses.slice(-LOOKS)));
    // What has not helped is not tried again soon: this machine may be too busy.
    const again = at - this.#notBefore < this.#wait && ms > this.#asked / 2;
    this.#wait = again ? Math.min(LONGEST_WAIT_MS, this.#wait * 2) : WAIT_MS;
    this.#notBefore = at + this.#wait;
    this.#asked = ms;
    this.#excesses = [];
    return Math.min(ms, 1000);
  }
}

/** @param {Reading} before @param {Reading} now @returns {number | null} null where it cannot be said */
function excessMs(before, now) {
  const count = now.buffered - before.buffered;
  if (count < LEAST_PICTURES || now.meantSeconds === null || before.meantSeconds === null) return null;
  const held = now.bufferSeconds - before.bufferSeconds - (now.assembledSeconds - before.assembledSeconds);
  return (1000 * (held - (now.meantSeconds - before.meantSeconds))) / count;
}
