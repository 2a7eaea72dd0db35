// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { figures, pathOf, readStats } from '../../edgeagent/web/stats.js';

/** @param {Record<string, any>} inbound @param {Record<string, any>} [more] */
function report(inbound, more = {}) {
  /** @type {any[]} */
  const entries = [
    { id: 'I0', type: 'inbound-rtp', kind: 'video', mid: '0', timestamp: 1000, codecId: 'C', ...inbound },
    { id: 'I1', type: 'inbound-rtp', kind: 'video', mid: '1', timestamp: 1000, framesDecoded: 999 },
    { id: 'C', type: 'codec', mimeType: 'video/H264', sdpFmtpLine: 'packetization-mode=1;profile-level-id=42e01f' },
    { id: 'T', type: 'transport', selectedCandidatePairId: 'P' },
    { id: 'Q', type: 'candidate-pair', nominated: true, state: 'succeeded', localCandidateId: 'R', remoteCandidateId: 'R' },
    { id: 'P', type: 'candidate-pair', localCandidateId: 'L', remoteCandidateId: 'H', currentRoundTripTime: 0.0042 },
    { id: 'L', type: 'local-candidate', candidateType: 'prflx', protocol: 'udp' },
    { id: 'H', type: 'remote-candidate', candidateType: 'host', protocol: 'udp' },
    { id: 'R', type: 'local-candidate', candidateType: 'relay', protocol: 'udp' },
    ...Object.values(more),
  ];
  return new Map(entries.map((entry) => [entry.id, entry]));
}

describe('stats', () => {
  test('rates come from two readings of the same line', () => {
    const first = readStats(report({ bytesReceived: 1000, framesDecoded: 10, packetsReceived: 100, packetsLost: 0, jitterBufferDelay: 1, jitterBufferEmittedCount: 50 }), '0');
    const second = readStats(
      report({ timestamp: 3000, bytesReceived: 751_000, framesDecoded: 70, packetsReceived: 298, packetsLost: 2, jitterBufferDelay: 1.6, jitterBufferEmittedCount: 110, frameWidth: 1280, frameHeight: 720 }),
      '0',
    );
    assert.ok(first && second);
    const seen = figures(first, second);
    assert.equal(seen.fps, 30);
    assert.equal(seen.bitsPerSecond, 3_000_000);
    assert.equal(seen.lossPercent, 1);
    assert.ok(Math.abs((seen.bufferMs ?? 0) - 10) < 1e-9);
    assert.deepEqual([seen.width, seen.height, seen.codec, seen.path, seen.protocol], [1280, 720, 'H.264 constrained baseline', 'host', 'udp']);
    assert.ok(Math.abs((seen.rttMs ?? 0) - 4.2) < 1e-9);
  });

  test('a first reading, and counters that began anew, give no rate', () => {
    const after = readStats(report({ bytesReceived: 1000, framesDecoded: 10 }), '0');
    const before = readStats(report({ timestamp: 0, bytesReceived: 9000, framesDecoded: 90 }), '0');
    assert.ok(after && before);
    assert.equal(figures(null, after).fps, 0);
    assert.equal(figures(before, after).bitsPerSecond, 0);
  });

  test('no such line, no reading', () => {
    assert.equal(readStats(report({}), '7'), null);
    assert.equal(readStats(new Map(), '0'), null);
  });

  test('a browser without transport stats: the nominated pair', () => {
    const seen = readStats(new Map([...report({})].filter(([id]) => id !== 'T' && id !== 'P')), '0');
    assert.equal(seen?.path, 'relay');
    assert.equal(seen?.rttMs, null);
  });

  test('the worse end names the path', () => {
    assert.deepEqual(
      [pathOf('host', 'host'), pathOf('prflx', 'host'), pathOf('host', 'prflx'), pathOf('srflx', 'host'), pathOf('prflx', 'prflx'), pathOf('relay', 'host'), pathOf('host', 'relay'), pathOf(undefined, 'host')],
      ['host', 'host', 'host', 'srflx', 'srflx', 'relay', 'relay', ''],
    );
  });

  test('profiles by name, unknown ones without', () => {
    const name = (/** @type {string} */ id) => readStats(report({}, { C: { id: 'C', type: 'codec', mimeType: 'video/H264', sdpFmtpLine: `profile-level-id=${id}` } }), '0')?.codec;
    assert.deepEqual(['42001f', '42e01f', '4d001f', '64001f', '58001f'].map(name), ['H.264 baseline', 'H.264 constrained baseline', 'H.264 main', 'H.264 high', 'H.264']);
    assert.equal(readStats(report({}, { C: { id: 'C', type: 'codec', mimeType: 'video/VP8' } }), '0')?.codec, 'VP8');
  });
});
