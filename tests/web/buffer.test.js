// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BufferTarget } from '../../edgeagent/web/buffer.js';

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
