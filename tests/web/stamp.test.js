// @ts-check
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { cellSize, COLUMNS, crc8, decodeStamp, ROWS, Samples, stampAge } from '../../edgeagent/web/stamp.js';
import { seeded } from './support/sim.js';

/** The grid as pixels. @param {number} frame @param {number} time @param {number} cell @param {(level: number) => number} [noise] */
function draw(frame, time, cell, noise = (level) => level) {
  const bytes = new Uint8Array(10);
  bytes.set([0xea, (frame >> 16) & 255, (frame >> 8) & 255, frame & 255]);
  for (let i = 8, rest = time; i >= 4; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  bytes[9] = crc8(bytes, 9);
  const rgba = new Uint8ClampedArray(COLUMNS * cell * ROWS * cell * 4);
  for (let y = 0; y < ROWS * cell; y++) {
    for (let x = 0; x < COLUMNS * cell; x++) {
      const bit = Math.floor(y / cell) * COLUMNS + Math.floor(x / cell);
      const white = (bytes[bit >> 3] >> (7 - (bit & 7))) & 1;
      // Cells bleed into each other at their edges, as a codec makes them.
      const edge = x % cell === 0 || x % cell === cell - 1;
      rgba.fill(noise(edge ? 128 : white ? 235 : 16), (y * COLUMNS * cell + x) * 4, (y * COLUMNS * cell + x) * 4 + 4);
    }
  }
  return rgba;
}

describe('stamp', () => {
  test('is read back through noise and blurred edges', () => {
    const random = seeded(4);
    for (let i = 0; i < 200; i++) {
      const frame = Math.floor(random() * 2 ** 24);
      const time = Math.floor(random() * 2 ** 40);
      const cell = [4, 8, 16, 24][i % 4];
      assert.deepEqual(decodeStamp(draw(frame, time, cell, (level) => level + (random() - 0.5) * 120), cell), { frame, time });
    }
  });

  test('any wrong bit and any other picture is refused', () => {
    for (let bit = 0; bit < 80; bit++) {
      const rgba = draw(77, 1_700_000_000_123 % 2 ** 40, 8);
      const [left, top] = [(bit % COLUMNS) * 8, Math.floor(bit / COLUMNS) * 8];
      for (let y = top; y < top + 8; y++) {
        for (let x = left; x < left + 8; x++) for (let c = 0; c < 3; c++) rgba[(y * COLUMNS * 8 + x) * 4 + c] = 255 - rgba[(y * COLUMNS * 8 + x) * 4 + c];
      }
      assert.equal(decodeStamp(rgba, 8), null, `bit ${bit}`);
    }
    assert.equal(decodeStamp(new Uint8ClampedArray(COLUMNS * 4 * ROWS * 4 * 4), 4), null);
    assert.equal(decodeStamp(new Uint8ClampedArray(COLUMNS * 4 * ROWS * 4 * 4).fill(255), 4), null);
  });

  test('the CRC is CRC-8 with polynomial 0x07', () => {
    assert.equal(crc8(new TextEncoder().encode('123456789'), 9), 0xf4);
  });

  test('cells grow with the picture, halves to even as in Python', () => {
    assert.deepEqual([320, 640, 960, 1280, 1600, 1920, 2560, 3840].map(cellSize), [8, 8, 16, 16, 16, 24, 32, 48]);
  });

  test('age is taken around the wrap of 40 bits', () => {
    const wrap = 2 ** 40;
    assert.equal(stampAge(5 * wrap + 10, wrap - 20), 30);
    assert.equal(stampAge(wrap - 20, 10), -30);
    assert.equal(stampAge(1_795_397_750_964.5, 1_795_397_750_900 % wrap), 64.5);
  });

  test('the agent draws what is read here', (t) => {
    const script = 'import json; from edgeagent.core import stamp as s; print(json.dumps([[n, m, s.encode(n, m)] for n, m in [(0, 0), (123456, 1795397750964), (2**24 - 1, 2**40 - 1)]] + [[s.cell_size(w) for w in range(320, 4000, 16)]]))';
    let text = '';
    for (const python of ['.venv/bin/python', 'python3']) {
      try {
        text ||= execFileSync(python, ['-c', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], cwd: new URL('../..', import.meta.url) });
      } catch {
        // Not this one.
      }
    }
    if (!text) return t.skip('no Python with the agent in it');
    const [sizes, ...stamps] = JSON.parse(text).reverse();
    for (const [frame, time, bits] of stamps) {
      const rgba = new Uint8ClampedArray(COLUMNS * 4 * ROWS * 4 * 4);
      bits.forEach((/** @type {number} */ bit, /** @type {number} */ i) => {
        for (let y = 0; y < 4; y++) for (let x = 0; x < 4; x++) rgba[((Math.floor(i / COLUMNS) * 4 + y) * COLUMNS * 4 + (i % COLUMNS) * 4 + x) * 4 + 1] = bit * 255;
      });
      assert.deepEqual(decodeStamp(rgba, 4), { frame: frame % 2 ** 24, time: time % 2 ** 40 });
    }
    sizes.forEach((/** @type {number} */ size, /** @type {number} */ i) => assert.equal(cellSize(320 + 16 * i), size));
  });
});

test('the delay is the median of the last three seconds, with the uncertainty of the clock', () => {
  const samples = new Samples();
  const clock = { offset: 1000, uncertainty: 2 };
  assert.equal(samples.delay(clock, 0), null);
  // Shown at 50 ms intervals; one that is too old to count, then 40, 90 and 60 ms old.
  for (const [at, age] of [[100, 900], [5000, 40], [5050, 90], [5100, 60]]) samples.list.push({ frame: at, time: at + 1000 - age, display: at, at, width: 640 });
  assert.deepEqual(samples.delay(clock, 5150), { ms: 60, uncertainty: 2, count: 3 });
  samples.clear();
  assert.equal(samples.delay(clock, 5150), null);
});
