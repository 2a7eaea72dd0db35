// @ts-check
/** Gamepads of any kind: how one is bound, and what it may do when it appears, goes, or is one of two. */
import assert from 'node:assert/strict';
import { beforeEach, describe, mock, test } from 'node:test';
import { Binder, opposite, REST_MS } from '../../edgeagent/web/binding.js';
import { Desk } from '../../edgeagent/web/desk.js';
import { Pads } from '../../edgeagent/web/gamepads.js';
import { padHands, still } from '../../edgeagent/web/inputs.js';
import { seeded } from './support/sim.js';

/** @typedef {import('../../edgeagent/web/inputs.js').PadState} PadState */

/** @param {number[]} axes @param {Record<number, number>} [buttons] @param {{id?: string, mapping?: string, index?: number}} [more] */
function pad(axes, buttons = {}, { id = 'odd', mapping = '', index = 0 } = {}) {
  const all = Array.from({ length: 17 }, (_, i) => ({ pressed: (buttons[i] ?? 0) > 0.5, value: buttons[i] ?? 0 }));
  return { id, mapping, index, connected: true, axes, buttons: all };
}

/** A person who is asked: each state is there for so long. */
class Asked {
  now = 0;
  binder;

  /** @param {boolean} [looks] */
  constructor(looks = false) {
    this.binder = new Binder(looks);
  }

  /** @param {PadState} state @param {number} [ms] */
  is(state, ms = REST_MS + 100) {
    for (const end = this.now + ms; this.now < end && !this.binder.done; this.now += 16) this.binder.look(state, this.now);
    return this;
  }

  /** Press slowly from here to there. @param {number} axis @param {number[]} path @param {number[]} rest the other axes */
  sweep(axis, path, rest) {
    for (let i = 1; i < path.length; i++) {
      for (let share = 0; share <= 1; share += 1 / 30) {
        const axes = [...rest];
        axes[axis] = path[i - 1] + share * (path[i] - path[i - 1]);
        this.is(pad(axes), 16);
      }
    }
    return this;
  }
}

describe('binding', () => {
  test('a stick answers for both ways, a button for one; what has not come back is no answer', () => {
    const asked = new Asked();
    const rest = pad([0.02, 0.01]);
    assert.deepEqual(asked.binder.question, { text: 'Drive forward: push the stick or pedal, then let go', at: 1, of: 5 });
    asked.is(rest).is(pad([0.02, -1]), 5000);
    assert.deepEqual(asked.binder.binding, {}, 'it is held');
    asked.is(rest);
    assert.deepEqual(asked.binder.binding, { forward: [{ axis: 1, rest: 0.01, full: -1 }], back: [{ axis: 1, rest: 0.01, full: 1 }] });
    assert.match(asked.binder.question.text, /^Steer to the right/);
    asked.is(rest).is(pad([0.9, 0.01]), 300).is(rest);
    assert.deepEqual(asked.binder.question, { text: 'Press the button that is to stop everything', at: 5, of: 5 });
    asked.is(pad([0.02, 0.01], { 3: 1 }), 200).is(rest);
    assert.equal(asked.binder.done, true);
    /** @type {import('../../edgeagent/web/inputs.js').Binding} */
    const binding = asked.binder.binding;
    assert.deepEqual(binding.stop, [{ button: 3 }]);
    assert.equal(padHands(pad([-1, -1]), binding).throttle, 1);
    assert.ok(padHands(pad([-1, -1]), binding).steer < -0.95);
    assert.deepEqual(padHands(rest, binding), { ...still(), stop: false, wheel: false });
  });

  for (const [what, path] of /** @type {const} */ ([['at once', [0, 1, -1]], ['slowly, beginning at its end', [0, -1, 1, -1]], ['the other way round', [0, 1, -1, 1]]]))
    test(`a pedal that says 0 before it is touched rests at its end: ${what}`, () => {
      const asked = new Asked();
      const end = /** @type {number} */ (path.at(-1));
      asked.is(pad([0, 0, 0]), 2000).sweep(2, [...path], [0, 0, 0]).is(pad([0, 0, end]));
      assert.deepEqual(asked.binder.binding, { forward: [{ axis: 2, rest: end, full: -end }] });
      assert.match(asked.binder.question.text, /^Drive back/, 'it has no other way');
      const { binding } = asked.binder;
      assert.equal(padHands(pad([0, 0, end]), binding).throttle, 0);
      assert.equal(padHands(pad([0, 0, -end]), binding).throttle, 1);
    });

  test('a pedal held half down is no stick', () => {
    const asked = new Asked();
    asked.is(pad([0, 0, 0])).sweep(2, [0, -1, 1, 0], [0, 0, 0]).is(pad([0, 0, 0.05]), 3000);
    assert.deepEqual(asked.binder.binding, {});
    asked.sweep(2, [0.05, 1, -1], [0, 0, 0]).is(pad([0, 0, -1]));
    assert.deepEqual(asked.binder.binding, { forward: [{ axis: 2, rest: -1, full: 1 }] });
  });

  test('a pedal that is told of for the first time with another lever is not meant', () => {
    const asked = new Asked();
    asked.is(pad([0, 0, 0])).is(pad([0, -1, -1]), 300).is(pad([0, 0, -1]));
    assert.deepEqual(asked.binder.binding.forward, [{ axis: 1, rest: 0, full: -1 }]);
  });

  test('what is not there is skipped, and an axis beats the button of the same trigger', () => {
    const asked = new Asked(true);
    asked.is(pad([0, -1])).is(pad([0, 1], { 6: 1 }), 200).is(pad([0, -1]));
    assert.deepEqual(asked.binder.binding.forward, [{ axis: 1, rest: -1, full: 1 }]);
    for (let i = 0; i < 7; i++) asked.binder.skip();
    assert.match(asked.binder.question.text, /stop everything/);
    asked.binder.skip();
    assert.equal(asked.binder.done, true);
    assert.equal(opposite({ button: 3 }), null);
  });

  test('whatever is moved in whatever order: hands that are off drive nothing', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = seeded(seed);
      const asked = new Asked();
      // Some axes are pedals, of which nothing is told before they are touched.
      const rests = [0, 1, 2, 3].map(() => (random() < 0.5 ? 0 : Math.sign(random() - 0.5)));
      const told = rests.map(() => false);
      const at = () => rests.map((rest, i) => (told[i] ? rest : 0));
      asked.is(pad(at()));
      for (let i = 0; i < 12 && !asked.binder.done; i++) {
        if (random() < 0.2) asked.binder.skip();
        const axis = Math.floor(random() * 4);
        const from = told[axis] ? rests[axis] : 0;
        const way = rests[axis] ? -rests[axis] : random() < 0.5 ? 1 : -1;
        told[axis] = true;
        asked.sweep(axis, random() < 0.5 ? [from, way, rests[axis]] : [from, rests[axis], way, rests[axis]], at()).is(pad(at()));
      }
      const hands = padHands(pad(rests), asked.binder.binding);
      assert.deepEqual(hands, { ...still(), stop: false, wheel: false }, `${seed}: ${JSON.stringify(asked.binder.binding)}`);
    }
  });
});

describe('the pads of a browser', () => {
  /** @type {(object | null)[]} */
  let plugged = [];
  /** @type {Map<string, string>} */
  const stored = new Map();
  const pedals = { forward: [{ axis: 2, rest: -1, full: 1 }], right: [{ axis: 0, rest: 0, full: 1 }], left: [{ axis: 0, rest: 0, full: -1 }], stop: [{ button: 0 }] };
  const standard = (/** @type {number[]} */ axes, /** @type {Record<number, number>} */ buttons = {}, index = 0) => pad(axes, buttons, { id: `pad ${index}`, mapping: 'standard', index });
  const none = { ...still(), stop: false, wheel: false };

  beforeEach(() => {
    plugged = [];
    stored.clear();
    Object.defineProperty(globalThis, 'navigator', { configurable: true, value: { getGamepads: () => plugged } });
    Object.defineProperty(globalThis, 'localStorage', {
      configurable: true,
      value: { getItem: (/** @type {string} */ key) => stored.get(key) ?? null, setItem: (/** @type {string} */ key, /** @type {string} */ value) => stored.set(key, value) },
    });
  });

  test('one that is switched on while its trigger is held moves nothing before that was let go, and stops at once', () => {
    const pads = new Pads();
    assert.deepEqual(pads.read(), none);
    plugged = [standard([0, 0, 0.8, 0], { 7: 1, 9: 1 })];
    assert.deepEqual(pads.read(), { ...none, wheel: true });
    assert.equal(pads.waits, true);
    plugged = [standard([0.9, 0, 0.8, 0], { 7: 1 })];
    assert.deepEqual(pads.read(), { ...none, steer: pads.read().steer }, 'the stick was at rest');
    assert.ok(pads.read().steer > 0.8);
    plugged = [standard([0, 0, 0, 0], { 1: 1 })];
    assert.equal(pads.read().stop, true);
    plugged = [standard([0, 0, 0, 0], { 7: 1 })];
    assert.equal(pads.read().throttle, 1);
    assert.equal(pads.waits, false);
  });

  test('a pedal that says nothing yet moves nothing', () => {
    const pads = new Pads();
    pads.bind(pad([]), pedals);
    plugged = [pad([0, 0, 0])];
    assert.deepEqual(pads.read(), none);
    plugged = [pad([0, 0, 1])];
    assert.deepEqual(pads.read(), none);
    plugged = [pad([0, 0, -1])];
    assert.deepEqual(pads.read(), none);
    plugged = [pad([0, 0, 1])];
    assert.equal(pads.read().throttle, 1);
    const other = pad([0, 0, 1], {}, { id: 'another in its place' });
    pads.bind(other, pedals);
    plugged = [other];
    assert.deepEqual(pads.read(), none);
    assert.equal(pads.lost, true);
  });

  test('two pedals that say the same before they are touched: each drives once it was let go itself', () => {
    const pads = new Pads();
    const both = { ...pedals, back: [{ axis: 1, rest: -1, full: 1 }] };
    pads.bind(pad([]), both);
    const is = (/** @type {number[]} */ axes) => {
      plugged = [pad(axes)];
      return pads.read().throttle;
    };
    assert.equal(is([0, 0, 0]), 0);
    assert.equal(pads.waits, true);
    for (const gas of [0.5, 1, 0.5, 0, -1, -1]) assert.equal(is([0, 0, gas]), 0, `${gas}`);
    assert.equal(pads.waits, true, 'the other one');
    assert.equal(is([0, 0, 1]), 1);
    assert.equal(is([0, 0, -1]), 0);
    assert.equal(is([0, 1, -1]), 0);
    assert.equal(is([0, -1, -1]), 0);
    assert.equal(pads.waits, false);
    assert.equal(is([0, 1, -1]), -1);
    // The same places of another layout are other levers.
    pads.bind(pad([]), { ...both, forward: both.back, back: both.forward });
    assert.equal(is([0, 1, 1]), 0);
    assert.equal(pads.waits, true);
  });

  test('a lever that is not told of at all was not at rest', () => {
    const pads = new Pads();
    pads.bind(pad([]), pedals);
    plugged = [pad([0, 0])];
    assert.deepEqual(pads.read(), none);
    plugged = [pad([0, 0, 1])];
    assert.equal(pads.read().throttle, 0);
    assert.equal(pads.waits, true);
  });

  test('while it is bound it drives nothing, nor after that before it is at rest; it is remembered, and forgotten', () => {
    const pads = new Pads();
    plugged = [standard([0, 0, 0, 0])];
    pads.read();
    plugged = [standard([0, -1, 0, 0])];
    assert.equal(pads.read().throttle, 1);
    pads.binding = true;
    assert.deepEqual(pads.read(), none);
    pads.binding = false;
    assert.deepEqual(pads.read(), none);
    assert.equal(pads.lost, false);
    plugged = [standard([0, 0, 0, 0])];
    pads.read();
    plugged = [standard([0, -1, 0, 0])];
    assert.equal(pads.read().throttle, 1);
    const odd = pad([0, 0, -1]);
    assert.equal(new Pads().bindingOf(odd), null);
    pads.bind(odd, pedals);
    assert.deepEqual(new Pads().bindingOf(odd), pedals);
    pads.bind(odd, null);
    assert.equal(new Pads().bindingOf(odd), null);
    // Those were bound about whatever the pad said at first.
    stored.set('edge.pad.odd', JSON.stringify(pedals));
    assert.equal(new Pads().bindingOf(odd), null);
  });

  test('the one in use is shaken', () => {
    const pads = new Pads();
    /** @type {string[]} */
    const felt = [];
    const shaken = (/** @type {number} */ index, /** @type {number[]} */ axes) => ({ ...standard(axes, {}, index), vibrationActuator: { playEffect: async () => void felt.push(`pad ${index}`) } });
    plugged = [shaken(0, [0, 0, 0, 0]), shaken(1, [0, 0, 0, 0])];
    pads.read();
    pads.rumble();
    assert.deepEqual(felt, [], 'none is in use');
    plugged = [plugged[0], shaken(1, [0, -1, 0, 0])];
    pads.read();
    pads.rumble();
    assert.deepEqual(felt, ['pad 1']);
  });

  test('of two the one that is moved drives; only where that one goes it is lost', () => {
    const pads = new Pads();
    plugged = [standard([0, 0, 0, 0]), standard([0, 0, 0, 0], {}, 1)];
    assert.deepEqual(pads.read(), none);
    plugged = [standard([0, 0, 0, 0]), standard([0, -1, 0, 0], {}, 1)];
    assert.equal(pads.read().throttle, 1);
    assert.equal(pads.pad?.index, 1);
    plugged = [null, plugged[1]];
    assert.equal(pads.read().throttle, 1);
    assert.equal(pads.lost, false);
    plugged = [standard([0, 0, 0, 0])];
    assert.deepEqual(pads.read(), none);
    assert.equal(pads.lost, true);
    pads.read();
    assert.equal(pads.lost, false, 'it is told once');
    plugged = [standard([0, -1, 0, 0])];
    assert.equal(pads.read().throttle, 1);
  });

  test('of two the one that was moved last drives, whichever was moved first; the other goes on by nothing that it held', () => {
    const pads = new Pads();
    const is = (/** @type {number} */ first, /** @type {number} */ second) => {
      plugged = [standard([0, -first, 0, 0]), standard([0, -second, 0, 0], {}, 1)];
      return Number(pads.read().throttle.toFixed(1));
    };
    assert.equal(is(0, 0), 0);
    assert.equal(is(1, 0), 1);
    assert.equal(is(1, 0.2), 1, 'it trembles');
    assert.equal(is(0, 0.2), 0, 'hands are off');
    assert.equal(is(0, 0), 0);
    assert.equal(is(0, 0.2), 0.1);
    assert.equal(is(0.2, 0.2), 0.1);
    assert.equal(is(1, 0.2), 1);
    assert.equal(is(1, 1), 1);
    assert.equal(is(-1, 1), 1, 'the second has it');
    assert.equal(is(-1, 0), 0);
    plugged = [plugged[0]];
    assert.deepEqual(pads.read(), none);
    assert.equal(pads.lost, true, 'it was in use last, though the first had been so before');
  });

  test('stop is heard of each pad, whichever drives, also where the button of another lies pressed', () => {
    const pads = new Pads();
    const is = (/** @type {Record<number, number>} */ first, /** @type {Record<number, number>} */ second) => {
      plugged = [standard([0, 0, 0, 0], first), standard([0, 0, 0, 0], second, 1)];
      return pads.read();
    };
    is({}, {});
    assert.deepEqual(is({}, { 7: 1 }), { ...none, throttle: 1 });
    assert.deepEqual(is({ 1: 1 }, { 7: 1 }), { ...none, throttle: 1, stop: true });
    assert.equal(is({ 1: 1 }, { 7: 1 }).stop, false, 'it is told once');
    assert.equal(is({ 1: 1 }, { 1: 1 }).stop, true);
    assert.equal(is({ 9: 1 }, { 7: 1 }).wheel, true);
  });
});

test('what sends looks at the hands itself, whether or not pictures are painted', () => {
  mock.timers.enable({ apis: ['setInterval'] });
  Object.assign(globalThis, { window: globalThis, document: new EventTarget() });
  try {
    const desk = new Desk(/** @type {any} */ ({ driving: false, wantedChanged: () => {} }));
    let looks = 0;
    desk.drive('drive', () => (looks += 1));
    mock.timers.tick(200);
    assert.equal(looks, 10);
    desk.drive('');
    mock.timers.tick(200);
    assert.equal(looks, 10);
  } finally {
    mock.timers.reset();
  }
});
