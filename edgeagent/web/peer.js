// @ts-check
/**
 * One RTCPeerConnection: receiving video lines and the data channel `session`. It decides nothing.
 *
 * @typedef {import('./types.js').Candidate} Candidate
 * @typedef {object} PeerEvents
 * @property {(state: string) => void} connection
 * @property {(open: boolean) => void} channel
 * @property {(text: string) => void} message
 * @property {(candidates: Candidate[], end: boolean) => void} candidates gathered since the offer was taken, in batches
 */

/**
 * What the page began before its other modules were there (start.js): asking the agent who it is, and a peer.
 * @type {{hello: Promise<Response> | null, peer: Peer | null}}
 */
export const early = { hello: null, peer: null };

/**
 * For pictures that are thinned out: their keyframe takes longer than the others, and those before it are to be shown meanwhile.
 */
const SPREAD_MS = 300;

/** Candidates that come within this time leave together. */
const BATCH_MS = 15;

export class Peer {
  /** @type {RTCPeerConnection} */
  pc;
  bornAt = performance.now();
  /** @type {PeerEvents | null} */
  events = null;
  /** @type {MediaStream[]} by order of the m-lines */
  #streams = [];
  /** @type {RTCDataChannel} */
  #channel;
  /** @type {Candidate[]} */
  #gathered = [];
  #ended = false;
  #flushing = 0;
  #offered = false;
  #remote = false;
  #buffer = 0;
  /** @type {ReadonlySet<string>} mids */
  #spread = new Set();
  /** @type {Candidate[]} */
  #early = [];
  /** @type {Promise<void>} */
  #queue = Promise.resolve();

  /** @param {RTCIceServer[]} iceServers */
  constructor(iceServers = []) {
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.#channel = this.pc.createDataChannel('session');
    this.#channel.onopen = () => this.events?.channel(true);
    this.#channel.onclose = () => this.events?.channel(false);
    this.#channel.onmessage = ({ data }) => typeof data === 'string' && this.events?.message(data);
    this.pc.onconnectionstatechange = () => this.events?.connection(this.pc.connectionState);
    this.pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) {
        const { candidate: text, sdpMid, sdpMLineIndex } = candidate;
        this.#gathered.push({ candidate: text, sdpMid, sdpMLineIndex });
      } else if (!candidate) this.#ended = true;
      this.#flushLater();
    };
  }

  /** Video lines, those included that are being prepared. */
  lines = 0;

  /** @param {RTCIceServer[]} iceServers only before the first line is prepared */
  useServers(iceServers) {
    this.pc.setConfiguration({ iceServers, bundlePolicy: 'max-bundle' });
  }

  /**
   * Add `count` video lines and set the local description; ask `takeOffer` for its text when it leaves.
   * @param {number} count
   */
  prepare(count) {
    this.lines += count;
    return this.#serially(async () => {
      for (let i = 0; i < count; i++) {
        const transceiver = this.pc.addTransceiver('video', { direction: 'recvonly' });
        const codecs = wantedCodecs();
        if (codecs.length) transceiver.setCodecPreferences?.(codecs);
        this.#hold(transceiver);
        this.#streams.push(new MediaStream([transceiver.receiver.track]));
      }
      await this.pc.setLocalDescription();
    });
  }

  /**
   * Hold pictures back; Chromium does it longer where the network's jitter demands it.
   * @param {number} ms
   * @param {ReadonlySet<string>} spread mids of those that the agent spreads over the time (buffer.js)
   */
  hold(ms, spread) {
    if (ms === this.#buffer && spread.size === this.#spread.size && [...spread].every((mid) => this.#spread.has(mid))) return;
    this.#buffer = ms;
    this.#spread = spread;
    for (const transceiver of this.#videos()) this.#hold(transceiver);
  }

  /** @param {RTCRtpTransceiver} transceiver */
  #hold({ receiver, mid }) {
    if (!('jitterBufferTarget' in receiver)) return;
    receiver.jitterBufferTarget = this.#spread.has(mid ?? '') ? Math.max(this.#buffer, SPREAD_MS) : this.#buffer;
  }

  /** Resolves when all that was asked for so far is done. */
  settled() {
    return this.#queue;
  }

  /** The mids of the video lines in order. */
  get mids() {
    return this.#videos().map((transceiver) => transceiver.mid ?? '');
  }

  /** The offer with the candidates gathered until now; later ones are reported. */
  takeOffer() {
    const sdp = this.pc.localDescription?.sdp ?? '';
    this.#gathered = [];
    this.#offered = true;
    if (this.#ended) this.#flushLater();
    return sdp;
  }

  /** @param {string} sdp */
  accept(sdp) {
    return this.#serially(async () => {
      await this.pc.setRemoteDescription({ type: 'answer', sdp });
      this.#remote = true;
      for (const candidate of this.#early.splice(0)) await this.#add(candidate);
    });
  }

  rollback() {
    return this.#serially(async () => {
      if (this.pc.signalingState === 'have-local-offer') await this.pc.setLocalDescription({ type: 'rollback' });
      this.lines = this.#streams.length = this.#videos().length;
    });
  }

  /** @param {Candidate[]} candidates */
  addCandidates(candidates) {
    for (const candidate of candidates) {
      if (this.#remote) void this.#add(candidate);
      else if (this.#early.length < 64) this.#early.push(candidate);
    }
  }

  /** @param {string} mid @returns {MediaStream | null} */
  stream(mid) {
    return this.#streams[this.mids.indexOf(mid)] ?? null;
  }

  /** @param {string} text @returns {boolean} whether the channel took it */
  send(text) {
    if (this.#channel.readyState !== 'open') return false;
    this.#channel.send(text);
    return true;
  }

  /** @returns {Promise<RTCStatsReport>} */
  stats() {
    return this.pc.getStats();
  }

  close() {
    this.events = null;
    clearTimeout(this.#flushing);
    this.pc.onicecandidate = this.pc.onconnectionstatechange = null;
    this.#channel.onopen = this.#channel.onclose = this.#channel.onmessage = null;
    this.pc.close();
  }

  #videos() {
    return this.pc.getTransceivers().filter((each) => each.receiver.track.kind === 'video');
  }

  /** @param {Candidate} candidate */
  async #add(candidate) {
    try {
      await this.pc.addIceCandidate(candidate);
    } catch {
      // One that this browser cannot use (an unknown protocol, a line that is gone) harms nothing.
    }
  }

  #flushLater() {
    if (!this.#offered || this.#flushing) return;
    this.#flushing = window.setTimeout(() => {
      this.#flushing = 0;
      const candidates = this.#gathered.splice(0, 64);
      if (candidates.length || this.#ended) this.events?.candidates(candidates, this.#ended);
    }, BATCH_MS);
  }

  /**
   * Negotiation steps one after the other.
   * @param {() => Promise<void>} step
   */
  #serially(step) {
    const done = this.#queue.then(step);
    this.#queue = done.catch(() => {});
    return done;
  }
}

/** @type {RTCRtpCodec[] | null} */
let codecs = null;

/**
 * H.264 with packetization-mode 1 and its retransmission: all that agents send, and an offer a fifth of the size.
 * Empty where the browser has no H.264, or does not say what it has.
 */
function wantedCodecs() {
  if (codecs?.length) return codecs;
  const all = RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? [];
  const h264 = all.filter((each) => /^video\/h264$/i.test(each.mimeType) && /packetization-mode=1/.test(each.sdpFmtpLine ?? ''));
  codecs = h264.length ? [...h264, ...all.filter((each) => /^video\/rtx$/i.test(each.mimeType))] : [];
  return codecs;
}

/** Whether the browser may have H.264: some say nothing about it. */
export const playsH264 = () => wantedCodecs().length > 0 || !RTCRtpReceiver.getCapabilities;
