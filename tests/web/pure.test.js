// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { retryDelay } from '../../edgeagent/web/backoff.js';
import { AgentClock } from '../../edgeagent/web/clock.js';
import { refusal } from '../../edgeagent/web/codec.js';
import { Store } from '../../edgeagent/web/store.js';
import { bitrateText, delayText, pathText } from '../../edgeagent/web/units.js';
import { duration, summary, titleOf, words } from '../../edgeagent/web/words.js';
import { seeded } from './support/sim.js';

describe('store', () => {
  test('tells of real changes only, once each', () => {
    const store = new Store({ a: 1, b: 'x' });
    /** @type {any[]} */
    const heard = [];
    const end = store.subscribe((state) => heard.push(state));
    store.set({ a: 1 });
    store.set({ a: 2, b: 'y' });
    assert.deepEqual(heard, [{ a: 2, b: 'y' }]);
    end();
    store.set({ a: 3 });
    assert.equal(heard.length, 1);
    assert.throws(() => Object.assign(store.state, { a: 9 }), TypeError);
  });

  test('a listener may end itself while it is told', () => {
    const store = new Store({ a: 1 });
    let other = 0;
    const end = store.subscribe(() => end());
    store.subscribe(() => (other += 1));
    store.set({ a: 2 });
    store.set({ a: 3 });
    assert.equal(other, 2);
  });
});

test('waits begin at once, grow, are bounded and jittered', () => {
  assert.equal(retryDelay(0, () => 1), 0);
  assert.equal(retryDelay(1, () => 1), 250);
  assert.equal(retryDelay(1, () => 0), 125);
  assert.equal(retryDelay(3, () => 1), 1000);
  const random = seeded(5);
  for (let failures = 1; failures < 5000; failures += 7) {
    const wait = retryDelay(failures, random);
    assert.ok(wait >= 125 && wait <= 1500, `${failures}: ${wait}`);
  }
});

describe('the agent clock', () => {
  test('the smallest round trip wins, and half of it is the uncertainty', () => {
    const clock = new AgentClock();
    assert.equal(clock.estimate(0), null);
    // The agent is 5000 ahead. The slow ping took its time on the way there only: it misleads by half of it.
    clock.add(100, 180, 5000 + 178);
    clock.add(200, 204, 5000 + 202);
    const best = clock.estimate(204);
    assert.deepEqual(best, { offset: 5000, uncertainty: 2, rtt: 4 });
    assert.equal(clock.lastRtt, 4);
  });

  test('the truth is always within the uncertainty, however lopsided the way', () => {
    const random = seeded(11);
    for (let round = 0; round < 200; round++) {
      const clock = new AgentClock();
      const offset = (random() - 0.5) * 1e12;
      let now = random() * 1e6;
      for (let i = 0; i < 12; i++) {
        const [there, back] = [random() ** 4 * 300, random() ** 4 * 300];
        clock.add(now, now + there + back, now + there + offset);
        now += there + back + random() * 2000;
      }
      const { offset: found, uncertainty } = /** @type {any} */ (clock.estimate(now));
      assert.ok(Math.abs(found - offset) <= uncertainty + 1e-3, `round ${round}`);
    }
  });

  test('an old sample grows uncertain, and in the end gives way to a slower new one', () => {
    const clock = new AgentClock();
    clock.add(0, 2, 1001);
    assert.ok(/** @type {any} */ (clock.estimate(60_002)).uncertainty >= 1 + 6 - 0.01);
    clock.add(60_000, 60_006, 61_003);
    assert.equal(clock.estimate(60_006)?.rtt, 6);
    clock.add(200_000, 200_090, 201_045);
    assert.equal(clock.estimate(200_090)?.rtt, 90, 'kept for two minutes only');
  });

  test('nonsense is not taken', () => {
    const clock = new AgentClock();
    clock.add(10, 5, 100);
    clock.add(10, 20, NaN);
    clock.add(NaN, 20, 100);
    assert.equal(clock.estimate(30), null);
    clock.add(10, 20, 100);
    clock.reset();
    assert.equal(clock.estimate(30), null);
  });
});

describe('words', () => {
  /** @param {any} view @param {any} [around] */
  const say = (view, around) => words({ text: '', age: null, ...view }, around);

  test('each state has one short sentence', () => {
    assert.equal(say({ phase: 'live', age: 10 }).text, '');
    assert.equal(say({ phase: 'connecting' }).text, 'Connecting…');
    assert.equal(say({ phase: 'starting' }).text, 'Camera is starting…');
    const off = say({ phase: 'off', text: 'There is no file clip.mp4; check `path` in the configuration.' });
    assert.deepEqual([off.text, off.hint], ['Camera is off', 'There is no file clip.mp4; check “path” in the configuration.']);
    assert.deepEqual([say({ phase: 'off' }).text, say({ phase: 'off' }).hint], ['Camera is off', '']);
    const lost = say({ phase: 'reconnecting', age: 12_300 });
    assert.deepEqual([lost.kind, lost.text, lost.age], ['wait', 'Reconnecting…', 'last picture 12 s ago']);
    assert.equal(say({ phase: 'unreachable', text: 'agent' }).text, 'The agent is not reachable');
    assert.equal(say({ phase: 'unreachable', text: 'broker' }).text, 'The broker is not reachable');
    assert.equal(say({ phase: 'refused', text: 'This browser has no H.264.' }).text, 'This browser has no H.264.');
  });

  test('whose fault it is: this device without network, a browser that keeps the page out', () => {
    assert.equal(say({ phase: 'reconnecting' }, { online: false }).text, 'This device is offline');
    assert.equal(say({ phase: 'unreachable', text: 'agent' }, { online: false }).text, 'This device is offline');
    assert.match(say({ phase: 'unreachable', text: 'agent' }, { lna: 'denied' }).hint, /Local network/);
  });

  test('only what waits shows a spinner', () => {
    for (const [phase, kind] of Object.entries({ live: 'live', resuming: 'live', connecting: 'wait', starting: 'wait', reconnecting: 'wait', off: 'off', refused: 'lost', unreachable: 'lost', signin: 'ask' })) {
      assert.equal(say({ phase }).kind, kind, phase);
    }
  });

  test('spans in the largest sensible unit', () => {
    assert.deepEqual([-5, 0, 59_999, 60_000, 3_599_000, 3_600_000, 172_799_000, 172_800_000].map(duration), ['0 s', '0 s', '59 s', '1 min', '59 min', '1 h', '47 h', '2 days']);
  });

  test('the header', () => {
    const live = { kind: /** @type {const} */ ('live'), text: '' };
    const lost = { kind: /** @type {const} */ ('lost'), text: 'The agent is not reachable' };
    assert.equal(summary([]), '');
    assert.equal(summary([live]), 'Live');
    assert.equal(summary([live, live]), '2 cameras, all live');
    assert.equal(summary([live, lost]), '1 of 2 cameras live');
    assert.equal(summary([lost, lost]), 'The agent is not reachable');
  });

  test('titles and numbers', () => {
    assert.equal(titleOf('front-door'), 'Front door');
    assert.equal(titleOf('gate', 'Hoftor'), 'Hoftor');
    assert.equal(delayText(null), '');
    assert.equal(delayText({ ms: 38.4, uncertainty: 0.2 }), '38 ms ± 1');
    assert.equal(delayText({ ms: 120, uncertainty: 11.2 }), '120 ms ± 12');
    assert.deepEqual([850, 64_000, 999_600, 3_020_000, 12_340_000].map(bitrateText), ['1\u00a0kbit/s', '64\u00a0kbit/s', '1.00\u00a0Mbit/s', '3.02\u00a0Mbit/s', '12.3\u00a0Mbit/s']);
    assert.deepEqual(['host', 'srflx', 'relay', ''].map(pathText), ['Direct, in your network', 'Direct, over the internet', 'Through a relay', '']);
  });
});

test('a browser without H.264 is told what helps', () => {
  assert.match(refusal('x', 'Mozilla/5.0 (X11; Linux aarch64; rv:140.0) Gecko/20100101 Firefox/140.0').message, /^Firefox has no H\.264 here.*OpenH264.*Plugins/);
  assert.match(refusal('x', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36').message, /^This browser has no H\.264.*use /);
});
