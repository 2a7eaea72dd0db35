// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BufferTarget, Held } from '../../edgeagent/web/buffer.js';

const STEP_MS = 500;

/** A peer that is read twice a second. */
class Peer {
  target = new BufferTarget();
  at = 0;
  nacks = 0;
  /** @type {number | null} */
  repaired = 0;

  /** @param {number} seconds @param {{nacks?: number, repaired?: number, rtt?: number}} [each] what is added at each reading */
  run(seconds, { nacks = 0, repaired = 0, rtt = 80 } = {}) {
    for (let i = 0; i < seconds * 2; i++) {
      this.at += STEP_MS;
      this.nacks += nacks;
      if (this.repaired !== null) this.repaired += repaired;
      this.target.take(this, rtt, this.at);
    }
    return this.target.ms;
  }
}

describe('how long pictures are held back', () => {
  test('not at all while nothing is sent again', () => {
    assert.equal(new Peer().run(60), 0);
  });

  /** @type {[string, {nacks?: number, repaired?: number, rtt?: number}, number][]} */
  const table = [
    ['somewhat more than a round trip', { nacks: 2, repaired: 2 }, 130],
    ['not less than a frame or so', { nacks: 2, repaired: 2, rtt: 4 }, 40],
    ['not for ever', { nacks: 2, repaired: 2, rtt: 700 }, 200],
    ['probes that nobody asked for', { repaired: 6 }, 0],
    ['asked for, and nothing comes', { nacks: 5 }, 0],
  ];
  for (const [name, each, ms] of table) {
    test(`${name}: ${ms} ms`, () => {
      const peer = new Peer();
      peer.run(1);
      assert.equal(peer.run(2, each), ms);
    });
  }

  test('within a second and a half', () => {
    const peer = new Peer();
    peer.run(0.5);
    assert.equal(peer.run(1, { nacks: 1, repaired: 1 }), 130);
  });

  test('a queue that overflows once is no reason', () => {
    const peer = new Peer();
    peer.run(2);
    assert.equal(peer.run(0.5, { nacks: 9, repaired: 40 }), 0);
    assert.equal(peer.run(5), 0);
  });

  test('it stays ten seconds, then falls slowly; single repairs keep it', () => {
    const peer = new Peer();
    peer.run(3, { nacks: 1, repaired: 1 });
    assert.equal(peer.run(10), 130);
    const falling = peer.run(3);
    assert.ok(falling > 50 && falling < 90, `${falling}`);
    peer.run(0.5, { nacks: 1, repaired: 1 });
    assert.equal(peer.run(10), falling);
    assert.equal(peer.run(10), 0);
  });

  test('it rises where the way becomes longer, and does not fall with it', () => {
    const peer = new Peer();
    assert.equal(peer.run(3, { nacks: 1, repaired: 1, rtt: 40 }), 80);
    assert.equal(peer.run(3, { nacks: 1, repaired: 1, rtt: 120 }), 180);
    assert.equal(peer.run(3, { nacks: 1, repaired: 1, rtt: 40 }), 180);
  });

  test('a new connection counts anew, and keeps the target', () => {
    const peer = new Peer();
    peer.run(3, { nacks: 9, repaired: 9 });
    peer.nacks = peer.repaired = 0;
    assert.equal(peer.run(5), 130);
    assert.equal(peer.run(20), 0);
  });

  test('where the browser does not count repairs, requests alone', () => {
    const peer = new Peer();
    peer.repaired = null;
    peer.run(1);
    assert.equal(peer.run(2, { nacks: 1 }), 130);
  });
});

/** A line whose pictures are held `held` ms, of which `meant` are meant, 25 a second. */
class Line {
  held = new Held();
  at = 0;
  /** @type {any} */
  counted = { bufferSeconds: 0, buffered: 0, meantSeconds: 0, assembledSeconds: 0, nacks: 0, jitterMs: 3 };

  /**
   * @param {number} seconds
   * @param {{held?: number, meant?: number | null, assembled?: number, nacks?: number, jitter?: number, fps?: number}} each
   * @returns {number[]} what was asked for
   */
  run(seconds, { held = 100, meant = 14, assembled = 2, nacks = 0, jitter = 3, fps = 25 }) {
    const asked = [];
    for (let i = 0; i < seconds * 2; i++) {
      this.at += STEP_MS;
      const { counted: c } = this;
      const count = c.buffered + fps / 2;
      this.counted = {
        bufferSeconds: c.bufferSeconds + (held * fps) / 2000,
        buffered: count,
        meantSeconds: meant === null ? null : c.meantSeconds + (meant * fps) / 2000,
        assembledSeconds: c.assembledSeconds + (assembled * fps) / 2000,
        nacks: c.nacks + nacks,
        jitterMs: jitter,
      };
      const ms = this.held.take(this.counted, this.at);
      if (ms) asked.push(ms);
    }
    return asked;
  }
}

describe('pictures that are held for longer than meant', () => {
  test('are drawn forward by that, less a margin, after three looks that say so', () => {
    const line = new Line();
    assert.deepEqual(line.run(8.5, { held: 14 }), []);
    assert.deepEqual(line.run(5.5, { held: 100 }), []);
    assert.deepEqual(line.run(1, { held: 100 }), [100 - 14 - 2 - 5]);
    assert.deepEqual(line.run(60, { held: 24 }), []);
  });

  /** @type {[string, Parameters<Line['run']>[1]][]} */
  const fine = [
    ['as meant', { held: 16 }],
    ['long, and meant to be', { held: 300, meant: 300 }],
    ['on a slow link, while the picture comes', { held: 90, assembled: 80 }],
    ['where packets are lost', { nacks: 1 }],
    ['where packets come unevenly', { jitter: 80 }],
    ['where the browser does not say what it means', { meant: null }],
    ['where pictures are seldom', { fps: 1 }],
  ];
  for (const [name, each] of fine) test(`${name}: nothing is asked for`, () => assert.deepEqual(new Line().run(60, each), []));

  test('what did not help is asked for less and less often', () => {
    const line = new Line();
    const times = [];
    for (let i = 0; i < 600; i++) if (line.run(0.5, {}).length) times.push(line.at / 1000);
    assert.deepEqual(times, [6.5, 12.5, 24.5, 48.5, 96.5, 192.5]);
  });

  test('a line that was counted anew begins anew', () => {
    const line = new Line();
    line.run(7, {});
    line.counted = { ...line.counted, bufferSeconds: 0, buffered: 0, meantSeconds: 0, assembledSeconds: 0 };
    assert.deepEqual(line.run(4, {}), []);
  });
});
