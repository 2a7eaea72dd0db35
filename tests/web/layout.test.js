// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { arrange } from '../../edgeagent/web/layout.js';
import { seeded } from './support/sim.js';

const WIDE = 16 / 9;

/** @param {number} n */
const cameras = (n) => Array.from({ length: n }, () => WIDE);

describe('layout', () => {
  test('boxes stay inside, do not overlap, keep their shape, for any set of cameras and any window', () => {
    const random = seeded(2);
    for (let round = 0; round < 400; round++) {
      const n = 1 + Math.floor(random() * 16);
      const aspects = Array.from({ length: n }, () => [WIDE, WIDE, 4 / 3, 9 / 16, 2.4][Math.floor(random() * 5)]);
      const [width, height] = [320 + Math.floor(random() * 2500), 320 + Math.floor(random() * 1500)];
      const fill = random() < 0.3;
      const boxes = arrange(aspects, width, height, { gap: 4, fill });
      assert.equal(boxes.length, n);
      boxes.forEach((box, i) => {
        assert.ok(box.x >= 0 && box.y >= 0 && box.x + box.width <= width + 1 && box.y + box.height <= height + 1, `round ${round}: ${JSON.stringify(box)}`);
        assert.ok(box.width > 0 && box.height > 0);
        if (!fill) assert.ok(Math.abs(box.width - box.height * aspects[i]) <= 2 + aspects[i], `round ${round} shape ${JSON.stringify(box)}`);
        for (const other of boxes.slice(0, i)) {
          const apart = box.x >= other.x + other.width || other.x >= box.x + box.width || box.y >= other.y + other.height || other.y >= box.y + box.height;
          assert.ok(apart, `round ${round}: ${JSON.stringify([box, other])}`);
        }
      });
    }
  });

  test('never less of the window than the best even grid', () => {
    for (const [width, height] of [[1440, 848], [1920, 1028], [2560, 1388], [900, 700], [1024, 1300], [844, 390]]) {
      for (let n = 1; n <= 12; n++) {
        let even = 0;
        for (let columns = 1; columns <= n; columns++) {
          const rows = Math.ceil(n / columns);
          const side = Math.min((width - 4 * (columns - 1)) / columns, ((height - 4 * (rows - 1)) / rows) * WIDE);
          even = Math.max(even, n * side * (side / WIDE));
        }
        const area = arrange(cameras(n), width, height, { gap: 4 }).reduce((sum, box) => sum + box.width * box.height, 0);
        assert.ok(area >= even * 0.985, `${n} in ${width}×${height}: ${area} < ${even}`);
      }
    }
  });

  test('one camera takes all it can', () => {
    assert.deepEqual(arrange([WIDE], 1600, 1000), [{ x: 0, y: 50, width: 1600, height: 900 }]);
    assert.deepEqual(arrange([WIDE], 1600, 1000, { fill: true }), [{ x: 0, y: 0, width: 1600, height: 1000 }]);
  });

  test('filled, the window is covered', () => {
    for (let n = 1; n <= 12; n++) {
      const boxes = arrange(cameras(n), 1440, 848, { gap: 0, fill: true });
      const area = boxes.reduce((sum, box) => sum + box.width * box.height, 0);
      assert.ok(Math.abs(area - 1440 * 848) < 1440 * 3, `${n}: ${area}`);
    }
  });

  test('nothing to arrange, no room to do it', () => {
    assert.deepEqual(arrange([], 100, 100), []);
    assert.deepEqual(arrange([1], 0, 100), [{ x: 0, y: 0, width: 0, height: 0 }]);
    assert.equal(arrange(cameras(5), 10, 10).length, 5);
  });

  test('the first of equals is the larger', () => {
    const boxes = arrange(cameras(5), 1440, 848);
    assert.ok(boxes[0].width >= boxes[4].width);
  });
});
