// @ts-check
/**
 * What `RTCPeerConnection.getStats()` says about one camera, in numbers a panel can show. Rates need two readings.
 *
 * @typedef {object} Reading
 * @property {number} at ms
 * @property {number} bytes
 * @property {number} packets
 * @property {number} lost
 * @property {number} frames decoded so far
 * @property {number} dropped
 * @property {number} bufferSeconds time that frames spent in the jitter buffer, summed
 * @property {number} buffered frames that left the jitter buffer
 * @property {number | null} meantSeconds time that they were meant to spend there, summed; null where the browser does not say
 * @property {number} assembledSeconds time from a frame's first packet to its last, summed
 * @property {number} jitterMs of the packets' arrivals (RFC 3550)
 * @property {number} freezes
 * @property {number} nacks
 * @property {number | null} repaired packets that came again; null where the browser does not count them
 * @property {number} plis
 * @property {number} width
 * @property {number} height
 * @property {string} codec
 * @property {string} path `host`, `srflx`, `relay` or ''
 * @property {string} protocol
 * @property {number | null} rttMs of the candidate pair
 *
 * @typedef {object} Figures
 * @property {number} width
 * @property {number} height
 * @property {number} fps
 * @property {number} bitsPerSecond
 * @property {number} lossPercent
 * @property {number | null} bufferMs
 * @property {number | null} rttMs
 * @property {string} codec
 * @property {string} path
 * @property {string} protocol
 * @property {number} dropped
 * @property {number} freezes
 * @property {number} nacks
 * @property {number} plis
 */

/**
 * @param {Map<string, any> | RTCStatsReport} report
 * @param {string} mid
 * @returns {Reading | null}
 */
export function readStats(report, mid) {
  /** @type {any} */ let inbound = null;
  /** @type {any} */ let transport = null;
  /** @type {any} */ let chosen = null;
  report.forEach((/** @type {any} */ entry) => {
    if (entry.type === 'inbound-rtp' && entry.kind === 'video' && entry.mid === mid) inbound = entry;
    else if (entry.type === 'transport') transport = entry;
    else if (entry.type === 'candidate-pair' && (entry.selected || (entry.nominated && entry.state === 'succeeded'))) chosen ??= entry;
  });
  if (!inbound) return null;
  const pair = (transport?.selectedCandidatePairId && report.get(transport.selectedCandidatePairId)) || chosen;
  const local = pair && report.get(pair.localCandidateId);
  const remote = pair && report.get(pair.remoteCandidateId);
  const codec = inbound.codecId && report.get(inbound.codecId);
  return {
    at: inbound.timestamp,
    bytes: inbound.bytesReceived ?? 0,
    packets: inbound.packetsReceived ?? 0,
    lost: inbound.packetsLost ?? 0,
    frames: inbound.framesDecoded ?? 0,
    dropped: inbound.framesDropped ?? 0,
    bufferSeconds: inbound.jitterBufferDelay ?? 0,
    buffered: inbound.jitterBufferEmittedCount ?? 0,
    meantSeconds: inbound.jitterBufferTargetDelay ?? null,
    assembledSeconds: inbound.totalAssemblyTime ?? 0,
    jitterMs: 1000 * (inbound.jitter ?? 0),
    freezes: inbound.freezeCount ?? 0,
    nacks: inbound.nackCount ?? 0,
    repaired: inbound.retransmittedPacketsReceived ?? null,
    plis: inbound.pliCount ?? 0,
    width: inbound.frameWidth ?? 0,
    height: inbound.frameHeight ?? 0,
    codec: codecName(codec),
    path: pathOf(local?.candidateType, remote?.candidateType),
    protocol: local?.relayProtocol || local?.protocol || '',
    rttMs: typeof pair?.currentRoundTripTime === 'number' ? pair.currentRoundTripTime * 1000 : null,
  };
}

/**
 * @param {Reading | null} before
 * @param {Reading} after
 * @returns {Figures}
 */
export function figures(before, after) {
  // A new connection, or a switch that began its counters anew, has nothing to be compared with.
  const same = before && after.at > before.at && after.bytes >= before.bytes && after.frames >= before.frames ? before : null;
  const seconds = same ? (after.at - same.at) / 1000 : 0;
  const packets = same ? after.packets - same.packets : after.packets;
  const lost = Math.max(0, same ? after.lost - same.lost : after.lost);
  const emitted = same ? after.buffered - same.buffered : after.buffered;
  const waited = same ? after.bufferSeconds - same.bufferSeconds : after.bufferSeconds;
  return {
    width: after.width,
    height: after.height,
    fps: same ? (after.frames - same.frames) / seconds : 0,
    bitsPerSecond: same ? ((after.bytes - same.bytes) * 8) / seconds : 0,
    lossPercent: packets + lost > 0 ? (100 * lost) / (packets + lost) : 0,
    bufferMs: emitted > 0 ? (1000 * waited) / emitted : null,
    rttMs: after.rttMs,
    codec: after.codec,
    path: after.path,
    protocol: after.protocol,
    dropped: after.dropped,
    freezes: after.freezes,
    nacks: after.nacks,
    plis: after.plis,
  };
}

/**
 * The worse of the two ends decides: a relay anywhere is a relay. Peer-reflexive means an address learnt on the way, which
 * on a LAN is a hidden host address, so it counts as `host` when the other end is one.
 * @param {string | undefined} local
 * @param {string | undefined} remote
 */
export function pathOf(local, remote) {
  if (!local || !remote) return '';
  if (local === 'relay' || remote === 'relay') return 'relay';
  if (local === 'srflx' || remote === 'srflx') return 'srflx';
  return local === 'host' || remote === 'host' ? 'host' : 'srflx';
}

/** @param {{mimeType?: string, sdpFmtpLine?: string} | undefined} codec */
function codecName(codec) {
  const type = codec?.mimeType?.split('/')[1] ?? '';
  if (type.toUpperCase() !== 'H264') return type;
  const id = /profile-level-id=([0-9a-f]{6})/i.exec(codec?.sdpFmtpLine ?? '')?.[1].toLowerCase();
  return id ? `H.264 ${profileName(id)}`.trim() : 'H.264';
}

/** @param {string} id six hex digits, RFC 6184 section 8.1 */
function profileName(id) {
  const constraints = parseInt(id.slice(2, 4), 16);
  switch (id.slice(0, 2)) {
    case '42':
      return constraints & 0x40 ? 'constrained baseline' : 'baseline';
    case '4d':
      return 'main';
    case '64':
      return 'high';
    default:
      return '';
  }
}
