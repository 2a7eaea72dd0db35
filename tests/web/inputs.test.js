// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { beyond, bindingFrom, Keys, padHands, STANDARD, stick, still, together } from '../../edgeagent/web/inputs.js';
import { seeded } from './support/sim.js';

/** @param {{axes?: number[], buttons?: Record<number, number>, mapping?: string}} [state] */
function pad({ axes = [0, 0, 0, 0], buttons = {}, mapping = 'standard' } = {}) {
  return { id: 'pad', mapping, axes, buttons: Array.from({ length: 17 }, (_, i) => ({ pressed: (buttons[i] ?? 0) > 0.5, value: buttons[i] ?? 0 })) };
}

describe('a stick on the screen', () => {
  test('is right and forward where the thumb goes right and up', () => {
    assert.deepEqual(stick(0, 0, 60), { x: 0, y: 0, knobX: 0, knobY: 0 });
    assert.deepEqual(stick(60, 0, 60), { x: 1, y: 0, knobX: 60, knobY: 0 });
    assert.equal(stick(0, -60, 60).y, 1);
    assert.equal(stick(0, 60, 60).y, -1);
  });

  test('stays within its ring and its range, and rests near the middle', () => {
    const random = seeded(3);
    for (let i = 0; i < 2000; i++) {
      const { x, y, knobX, knobY } = stick((random() - 0.5) * 1000, (random() - 0.5) * 1000, 60);
      assert.ok(Math.hypot(knobX, knobY) <= 60.001 && Math.abs(x) <= 1 && Math.abs(y) <= 1);
    }
    assert.deepEqual([stick(3, -4, 60).x, stick(3, -4, 60).y], [0, 0]);
  });

  test('has no jump at the edge of its dead zone', () => {
    assert.equal(beyond(0.1, 0.1), 0);
    assert.ok(beyond(0.1001, 0.1) < 0.001);
    assert.equal(beyond(-1, 0.1), -1);
  });
});

describe('keys', () => {
  test('rise quickly, and are gone at once', () => {
    const keys = new Keys();
    assert.equal(keys.press('KeyW', 0), true);
    assert.equal(keys.press('KeyX', 0), false);
    const levels = [0, 50, 100, 220, 1000].map((at) => keys.hands(at).throttle);
    assert.deepEqual([...levels].sort((a, b) => a - b), levels);
    assert.ok(levels[0] > 0.15 && levels[0] < 0.3, `${levels[0]}`);
    assert.equal(levels[4], 0.6);
    keys.press('KeyW', 900);
    assert.equal(keys.hands(1000).throttle, 0.6, 'a key that repeats does not begin anew');
    keys.release('KeyW');
    assert.deepEqual(keys.hands(1001), still());
    assert.equal(keys.press('KeyW', 1002, true), true);
    assert.deepEqual(keys.hands(1003), still(), 'nor does one begin by repeating: it was pressed for something else');
  });

  test('no key is held across Cmd, during which macOS tells of no release', () => {
    const none = { shiftKey: false, ctrlKey: false, metaKey: false, key: 'w' };
    for (const event of [{ ...none, key: 'Meta' }, { ...none, metaKey: true, key: 'Meta' }, { ...none, metaKey: true, shiftKey: true, key: '$' }]) {
      const keys = new Keys();
      assert.equal(keys.modifiers({ ...none, shiftKey: true }), false);
      keys.press('KeyW', 0);
      assert.equal(keys.hands(1000).throttle, 1);
      assert.equal(keys.modifiers(event), true);
      assert.deepEqual(keys.hands(1000), still());
      assert.equal(keys.fast, event.shiftKey);
    }
  });

  test('Shift is fast, Ctrl is slow, both directions are none', () => {
    const keys = new Keys();
    keys.press('ArrowUp', 0);
    keys.press('KeyD', 0);
    keys.fast = true;
    assert.deepEqual(keys.hands(1000), { throttle: 1, steer: 1, pan: 0, tilt: 0 });
    [keys.fast, keys.slow] = [false, true];
    assert.equal(keys.hands(1000).throttle, 0.3);
    keys.press('KeyS', 0);
    assert.equal(keys.hands(1000).throttle, 0);
    keys.clear();
    assert.equal(keys.any, false);
    assert.equal(keys.slow, false);
  });

  test('look about with IJKL', () => {
    const keys = new Keys();
    keys.press('KeyJ', 0);
    keys.press('KeyI', 0);
    assert.deepEqual(keys.hands(1000), { throttle: 0, steer: 0, pan: -0.6, tilt: 0.6 });
  });
});

describe('gamepads', () => {
  test('the standard layout: sticks, triggers, buttons', () => {
    const hands = (/** @type {any} */ state) => padHands(pad(state), STANDARD);
    assert.deepEqual(hands({}), { ...still(), stop: false, wheel: false });
    assert.equal(hands({ axes: [0, -1, 0, 0] }).throttle, 1);
    assert.equal(hands({ axes: [1, 0, 0, 0] }).steer, 1);
    assert.equal(hands({ axes: [0, 0, -1, -1] }).pan, -1);
    assert.equal(hands({ axes: [0, 0, -1, -1] }).tilt, 1);
    assert.equal(hands({ buttons: { 7: 1 } }).throttle, 1);
    assert.equal(hands({ buttons: { 6: 1 } }).throttle, -1);
    assert.equal(hands({ buttons: { 6: 1, 7: 1 } }).throttle, 0);
    assert.equal(hands({ buttons: { 1: 1 } }).stop, true);
    assert.equal(hands({ buttons: { 9: 1 } }).wheel, true);
  });

  test('a stick that does not quite come back is at rest', () => {
    assert.deepEqual(padHands(pad({ axes: [0.08, -0.11, 0.05, 0.1] }), STANDARD), { ...still(), stop: false, wheel: false });
  });

  test('in whatever state, every value is in range', () => {
    const random = seeded(8);
    for (let i = 0; i < 1000; i++) {
      const { throttle, steer, pan, tilt } = padHands(pad({ axes: Array.from({ length: 4 }, () => random() * 4 - 2), buttons: { 6: random(), 7: random() } }), STANDARD);
      for (const value of [throttle, steer, pan, tilt]) assert.ok(value >= -1 && value <= 1, `${value}`);
    }
    assert.equal(padHands({ ...pad(), axes: [] }, STANDARD).throttle, 0, 'axes that it does not have');
  });

  test('what was stored is checked', () => {
    assert.deepEqual(bindingFrom(JSON.stringify(STANDARD)), STANDARD);
    for (const text of ['', 'null', '{}', '[]', '7', '{"forward":3}', '{"forward":[{"axis":"a"}]}', '{"forward":[null]}']) assert.equal(bindingFrom(text), null, text);
  });
});

test('hands add up, within the range', () => {
  const a = { throttle: 0.8, steer: -0.5, pan: 0, tilt: 1 };
  assert.deepEqual(together(a, a, still()), { throttle: 1, steer: -1, pan: 0, tilt: 1 });
  assert.deepEqual(together(), still());
});
