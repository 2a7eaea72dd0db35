// @ts-check
/** Who is said to be at fault, row by row; and what of it is shown. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { chain, faultOf, FaultWatch, together } from '../../edgeagent/web/fault.js';
import { choices, wishFor } from '../../edgeagent/web/layers.js';
import { Sim } from './support/sim.js';

/** @param {any} [more] @returns {any} */
const reading = (more = {}) => ({ at: 0, bytes: 0, packets: 0, lost: 0, frames: 0, dropped: 0, bufferSeconds: 0, buffered: 0, freezes: 0, nacks: 0, plis: 0, rttMs: 20, ...more });

/** Two readings two seconds apart. @param {any} counted */
const measured = (counted) => ({ before: reading(), after: reading({ at: 2000, bytes: 500_000, packets: 500, ...counted }) });

/** Facts of a live picture with which all is well, and what is different. @param {any} [more] */
function facts({ phase = 'live', text = '', ...more } = {}) {
  return {
    view: { phase, text, age: 10 },
    flow: null,
    answers: true,
    stuck: /** @type {const} */ (''),
    broker: /** @type {const} */ (''),
    up: null,
    online: true,
    lna: '',
    board: '',
    camera: /** @type {any} */ ({ name: 'gate', fps: 30, layers: [{ name: 'main' }, { name: 'sub' }] }),
    ...measured({ frames: 60 }),
    ...more,
  };
}

/** @param {string} limit @param {any} [more] */
const limited = (limit, more = {}) => ({ mid: '0', layer: 'main', kbps: 500, limit, text: '', ...more });

const source = readFileSync(new URL('../../edgeagent/board.py', import.meta.url), 'utf8');
/** What the agent says of its board, by kind. @type {Record<string, string>} */
const troubles = Object.fromEntries([...source.matchAll(/^ {4}"(\w+)": "(The board[^"]+)",$/gm)].map((match) => match.slice(1)));
const HOT = troubles.hot;

/** @type {[string, any, string][]} what is known, and `part`, `part!` where no picture is live, `part~` where it is mild */
const TABLE = [
  ['all is well', {}, ''],
  ['this device is offline', { phase: 'reconnecting', online: false }, 'you!'],
  ['offline, and nothing was ever seen', { phase: 'connecting', online: false }, 'you!'],
  ['the browser says offline, but the picture moves', { online: false }, ''],
  ['the browser keeps the page out', { phase: 'unreachable', text: 'agent', lna: 'denied' }, 'you!'],
  ['a broker that is the only way is down', { phase: 'unreachable', text: 'broker', broker: 'down' }, 'broker!'],
  ['the broker says the agent has gone', { phase: 'unreachable', text: 'agent', broker: 'up', up: false }, 'board!'],
  ['what a broker said that is down itself counts no more', { phase: 'reconnecting', broker: 'down', up: false, answers: false }, 'network!'],
  ['nobody answers', { phase: 'unreachable', text: 'agent' }, 'board!'],
  ['an offer gets no answer', { phase: 'reconnecting', stuck: 'answer', answers: false }, 'board!'],
  ['an answer comes, but no connection', { phase: 'reconnecting', stuck: 'connect', answers: false }, 'network!'],
  ['the same at the first try', { phase: 'connecting', stuck: 'connect', answers: false }, 'network!'],
  ['the first connection takes its time', { phase: 'connecting', answers: false }, ''],
  ['the connection is gone', { phase: 'reconnecting', answers: false }, 'network!'],
  ['the agent answers, no picture comes', { phase: 'reconnecting', answers: true }, 'board!'],
  ['the camera is off', { phase: 'off', text: 'No signal.' }, 'camera!'],
  ['the camera starts', { phase: 'starting' }, ''],
  ['asked for again a moment ago', { phase: 'resuming', flow: limited('network') }, ''],
  ['sign in first', { phase: 'signin' }, ''],
  ['refused', { phase: 'refused', text: 'Too many viewers.' }, ''],
  ['the way to the viewer is narrow', { flow: limited('network') }, 'network'],
  ['the owner limits the uplink', { flow: limited('uplink') }, 'network'],
  ['the camera cannot send less', { flow: limited('camera') }, 'camera'],
  ['the board cannot encode more', { flow: limited('board') }, 'board'],
  ['less was wished for', { flow: limited('wish', { layer: 'sub' }), ...measured({ frames: 20 }) }, ''],
  ['freezes and loss', measured({ frames: 40, freezes: 1, lost: 50 }), 'network'],
  ['few pictures and loss', measured({ frames: 30, lost: 50 }), 'network'],
  ['loss that is repaired', measured({ frames: 60, lost: 50 }), ''],
  ['few pictures and a long round trip', measured({ frames: 30, rttMs: 900 }), 'network'],
  ['few pictures are shown', measured({ frames: 30, dropped: 30 }), 'you'],
  ['few pictures come', measured({ frames: 30 }), 'camera'],
  ['few pictures of a small layer say nothing', { flow: limited('none', { layer: 'sub' }), ...measured({ frames: 20 }) }, ''],
  ['few pictures of a camera of unknown rate', { camera: undefined, ...measured({ frames: 10 }) }, ''],
  ['one reading says nothing', { before: null, after: reading({ frames: 5 }) }, ''],
  ['counters that began anew say nothing', { before: reading({ frames: 900 }), after: reading({ at: 2000, frames: 5, lost: 90 }) }, ''],
  ['something ails the board, the picture is well', { board: 'The power supply is too weak.' }, 'board~'],
  ['few pictures come of a board that is slowed down', { board: HOT, ...measured({ frames: 24 }) }, 'board'],
  ['few pictures, and loss on the way from such a board', { board: HOT, ...measured({ frames: 24, lost: 50 }) }, 'network'],
  ['few pictures are shown of all from such a board', { board: HOT, ...measured({ frames: 24, dropped: 30 }) }, 'you'],
  ['few pictures come, and what ails the board does not slow it down', { board: troubles.disk, ...measured({ frames: 24 }) }, 'camera'],
  ['something ails the board, and the network is narrow', { board: 'The power supply is too weak.', flow: limited('network') }, 'network'],
];

describe('the table', () => {
  for (const [title, given, expected] of TABLE) {
    test(title, () => {
      const fault = faultOf(facts(given));
      assert.equal(fault ? fault.at + (fault.hard ? '!' : fault.mild ? '~' : '') : '', expected);
      if (fault) assert.match(fault.text, /^[A-Z][^.]+(\. [A-Z][^.]+)?\.$/, 'one or two sentences');
    });
  }

  test('the agent’s own words come first', () => {
    assert.equal(faultOf(facts({ flow: limited('network', { text: 'Your mobile network is slow.' }) }))?.text, 'Your mobile network is slow.');
    assert.equal(faultOf(facts({ board: 'The board is too hot.' }))?.text, 'The board is too hot.');
  });

  test('few pictures of a board that is slowed down: what it says of itself, and only if that slows it down', () => {
    const few = measured({ frames: 24 });
    const slow = limited('board', { text: 'The board is too slow.' });
    const named = Object.keys(troubles).filter((kind) => faultOf(facts({ board: troubles[kind], ...few }))?.text === troubles[kind]);
    assert.deepEqual(named.sort(), ['hot', 'memory', 'power', 'slowed']);
    assert.deepEqual(Object.keys(troubles).sort(), ['clock', 'disk', 'hot', 'memory', 'power', 'slowed', 'wifi']);
    assert.equal(faultOf(facts({ board: HOT, flow: slow, ...few }))?.text, HOT);
    assert.equal(faultOf(facts({ board: troubles.wifi, flow: slow, ...few }))?.text, 'The board is too slow.');
  });
});

describe('facts of a link', () => {
  /** @param {Sim} sim */
  const blamed = (sim) => faultOf(facts({ ...sim.link.facts('a', sim.now), phase: undefined, ...measured({ frames: 60 }) }))?.at ?? '';
  /** @param {string} [door] */
  function running(door) {
    const sim = new Sim();
    sim.start(door);
    sim.until(() => sim.live, 500);
    assert.equal(blamed(sim), '');
    return sim;
  }

  test('an agent that is killed: the board, once nobody answers', () => {
    const sim = running();
    sim.killAgent();
    sim.run(8000);
    assert.equal(blamed(sim), 'board');
    sim.startAgent('e2');
    sim.until(() => sim.live, 3000);
    assert.equal(blamed(sim), '');
  });

  test('a board that leaves the broker, a broker that dies with the connection', () => {
    const sim = running('mqtt');
    sim.killAgent();
    sim.event({ type: 'presence', up: false, epoch: 'e1' });
    sim.run(4000);
    assert.equal(blamed(sim), 'board');
    sim.event({ type: 'door', door: 'mqtt', ready: false, down: true });
    sim.event({ type: 'presence', up: null, epoch: null });
    sim.run(4000);
    assert.equal(blamed(sim), 'broker');
  });

  test('an answer, and no connection: the network', () => {
    const sim = running();
    sim.agent.connectMs = 60_000;
    sim.event({ type: 'connection', peer: 1, state: 'failed' });
    sim.run(9000);
    assert.equal(blamed(sim), 'network');
  });

  test('a camera without pictures on a connection that answers: the board', () => {
    const sim = running();
    sim.agent.frozen = new Set(['a']);
    sim.agent.answerMs = 2500;
    sim.run(2500);
    assert.equal(blamed(sim), 'board');
  });

  test('a camera that failed', () => {
    const sim = running();
    sim.agent.phases = { a: 'failed' };
    sim.event({ type: 'message', peer: 1, message: { v: 1, t: 'state', cameras: [sim.state('a')] } });
    sim.run(5000);
    assert.equal(blamed(sim), 'camera');
  });
});

describe('what is shown', () => {
  const network = /** @type {import('../../edgeagent/web/fault.js').Fault} */ ({ at: 'network', text: 'Slow.', hard: false, broker: false });
  const camera = /** @type {import('../../edgeagent/web/fault.js').Fault} */ ({ at: 'camera', text: 'Off.', hard: true, broker: false });

  test('not the flicker of a second; hard faults soon', () => {
    const watch = new FaultWatch();
    assert.equal(watch.judge('a', network, 0), null);
    assert.equal(watch.judge('a', null, 1000), null);
    assert.equal(watch.judge('a', network, 1500), null);
    assert.equal(watch.judge('a', network, 3499), null);
    assert.equal(watch.judge('a', network, 3500), network);
    assert.equal(watch.judge('a', camera, 4000), network);
    assert.equal(watch.judge('a', camera, 4500), camera);
    assert.equal(watch.judge('a', null, 5000), camera);
    assert.equal(watch.judge('a', null, 7000), null);
    assert.equal(watch.judge('b', camera, 7000), null, 'each camera for itself');
  });

  test('the same fault in other words is the same fault', () => {
    const watch = new FaultWatch();
    watch.judge('a', network, 0);
    watch.judge('a', network, 2000);
    const other = { ...network, text: 'Slower.' };
    assert.equal(watch.judge('a', other, 2100), other);
    assert.equal(watch.judge('a', { ...other }, 2200), other, 'and the same object while it is the same');
  });

  test('several cameras: what they share, or the worst with its name', () => {
    assert.equal(together([]), null);
    assert.equal(together([{ title: 'Gate', fault: null }]), null);
    assert.equal(together([{ title: 'Gate', fault: network }, { title: 'Yard', fault: network }])?.text, 'Slow.');
    assert.equal(together([{ title: 'Gate', fault: camera }])?.text, 'Off.');
    assert.equal(together([{ title: 'Gate', fault: network }, { title: 'Yard', fault: camera }])?.text, 'Yard: Off.');
    assert.equal(together([{ title: 'Gate', fault: network }, { title: 'Yard', fault: null }])?.text, 'Gate: Slow.');
    assert.equal(together([{ title: 'Gate', fault: camera }, { title: 'Yard', fault: null }])?.partly, true);
    assert.equal(together([{ title: 'Gate', fault: camera }, { title: 'Yard', fault: camera }])?.partly, undefined);
    assert.equal(together([{ title: 'Gate', fault: camera }, { title: 'Yard', fault: camera }, { title: 'Door', fault: null }])?.text, 'Gate and Yard: Off.');
  });

  test('names before a sentence: its number and its first letter agree with them', () => {
    const off = /** @type {import('../../edgeagent/web/fault.js').Fault} */ (faultOf(facts({ phase: 'off' })));
    const few = faultOf(facts(measured({ frames: 30 })));
    const [gate, yard, door, well] = ['Gate', 'Yard', 'Door', 'Well'].map((title) => ({ title, fault: title === 'Well' ? null : off }));
    assert.equal(together([gate])?.text, 'The board works, but the camera gives no picture.');
    assert.equal(together([gate, yard])?.text, 'The board works, but the cameras give no picture.');
    assert.equal(together([gate, well])?.text, 'Gate: the board works, but the camera gives no picture.');
    assert.equal(together([gate, yard, door, well])?.text, 'Gate, Yard and Door: the board works, but the cameras give no picture.');
    assert.equal(together([{ ...gate, fault: few }, { ...yard, fault: few }, well])?.text, 'Gate and Yard: the cameras deliver fewer pictures than they should.');
    assert.equal(together([{ ...gate, fault: { ...off, text: 'RTSP says no.' } }, well])?.text, 'Gate: RTSP says no.');
  });

  test('the chain: nothing is known of what lies behind a hard fault', () => {
    const say = (/** @type {any} */ fault) => chain(fault).map(({ part, state }) => `${part} ${state}`).join(', ');
    assert.equal(say({ ...network, broker: true }), 'camera ok, board ok, broker ok, network bad, you ok');
    assert.equal(say(camera), 'camera bad, board ok, network ok, you ok');
    assert.equal(say({ ...camera, at: 'board' }), 'camera unknown, board bad, network ok, you ok');
    assert.equal(say({ ...camera, at: 'broker' }), 'camera unknown, board unknown, broker bad, network ok, you ok');
  });
});

describe('layers', () => {
  const two = [{ name: 'main', width: 1920, height: 1080 }, { name: 'sub', width: 640, height: 360 }];

  test('data saver takes the smallest of several, else the person’s choice holds', () => {
    assert.equal(wishFor(two, false, 'auto'), 'auto');
    assert.equal(wishFor(two, false, 'main'), 'main');
    assert.equal(wishFor(two, true, 'main'), 'sub');
    assert.equal(wishFor(two, false, 'gone'), 'auto');
    assert.equal(wishFor(two.slice(0, 1), true, 'main'), 'auto');
    assert.equal(wishFor([], true, 'main'), 'auto');
  });

  test('named by their size, or by their place', () => {
    assert.deepEqual(choices(two).map(({ name, label, size }) => [name, label, size]), [
      ['auto', 'Automatic', 'As good as the network allows'],
      ['main', 'Best', '1920 × 1080'],
      ['sub', 'Small', '640 × 360'],
    ]);
    assert.deepEqual(choices([...two, { name: 'tiny', width: 0, height: 0 }]).map(({ label, size }) => `${label} ${size}`.trim()).slice(1), ['Best 1920 × 1080', 'Medium 640 × 360', 'Small']);
    assert.deepEqual(choices([...two, ...two]).map(({ label }) => label).slice(1), ['1920 × 1080', '640 × 360', '1920 × 1080', '640 × 360']);
  });
});
