// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Link, STALE_MS } from '../../edgeagent/web/link.js';
import { seeded, Sim } from './support/sim.js';

/** A sim with all cameras live. @param {ConstructorParameters<typeof Sim>[0]} [options] @param {string} [door] */
function running(options, door) {
  const sim = new Sim(options);
  sim.start(door);
  sim.until(() => sim.live, 500);
  return sim;
}

describe('the first picture', () => {
  test('comes as soon as offer, answer and connection allow', () => {
    const sim = new Sim();
    sim.start();
    const took = sim.until(() => sim.live, 500);
    // 5 to prepare, 10 to be answered, 30 to connect, 40 to the first frame
    assert.ok(took <= 5 + 10 + 30 + 40 + 10, `${took}`);
    assert.deepEqual(sim.effects('offer')[0].cameras, { 0: 'a', 1: 'b' });
  });

  test('the offer is prepared while no door is open, and leaves when one opens', () => {
    const sim = new Sim();
    sim.start('');
    sim.run(300);
    assert.equal(sim.opened, 1);
    assert.equal(sim.effects('offer').length, 0);
    assert.equal(sim.link.view('a', sim.now).phase, 'connecting');
    const from = sim.now;
    sim.event({ type: 'door', door: 'mqtt', ready: true });
    assert.equal(sim.effects('offer')[0].at, from);
    assert.equal(sim.effects('offer')[0].door, 'mqtt');
  });

  test('the door that is ready first is taken; of two, MQTT', () => {
    const first = new Sim();
    first.start('whep');
    first.run(10);
    first.event({ type: 'door', door: 'mqtt', ready: true });
    assert.equal(first.effects('offer')[0].door, 'whep');
    const both = new Sim();
    both.event({ type: 'door', door: 'whep', ready: true });
    both.event({ type: 'door', door: 'mqtt', ready: true });
    both.start('');
    both.run(20);
    assert.equal(both.effects('offer')[0].door, 'mqtt');
  });

  test('a door behind which nobody answers is left for the other', () => {
    const sim = new Sim();
    sim.doors.mqtt = 'lost';
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.event({ type: 'door', door: 'mqtt', ready: true });
    sim.start('');
    assert.ok(sim.until(() => sim.live, 5000) < 4000);
    assert.deepEqual(sim.effects('offer').map((each) => each.door), ['mqtt', 'whep']);
  });

  test('a camera that is starting is waited for in the same peer', () => {
    const sim = new Sim();
    sim.agent.phases = { a: 'starting', b: 'starting' };
    sim.start();
    sim.run(15_000);
    assert.equal(sim.opened, 1);
    assert.equal(sim.link.view('a', sim.now).phase, 'starting');
    sim.agent.phases = {};
    sim.event({ type: 'message', peer: 1, message: { v: 1, t: 'state', cameras: [sim.state('a'), sim.state('b')] } });
    sim.until(() => sim.live, 500);
  });

  test('more cameras than one connection takes: the first sixteen', () => {
    const cameras = Array.from({ length: 20 }, (_, i) => `c${i}`);
    const sim = new Sim({ cameras });
    sim.start();
    sim.run(1000);
    assert.equal(Object.keys(sim.effects('offer')[0].cameras).length, 16);
    assert.equal(sim.link.view('c15', sim.now).phase, 'live');
    // One that has no line takes that of a camera nobody looks at.
    sim.want('c0-', ...cameras.slice(1, 15), 'c15', 'c19');
    sim.until(() => sim.link.view('c19', sim.now).phase === 'live', 500);
    assert.equal(sim.opened, 1);
  });
});

describe('recovery', () => {
  test('two seconds without frames: a new peer beside the old, whose pictures stay until they are replaced', () => {
    const sim = running();
    sim.agent.frozen = new Set(['a', 'b']);
    const from = sim.now;
    sim.run(STALE_MS + 200);
    assert.equal(sim.opened, 2);
    const second = sim.effects('open')[1];
    assert.ok(second.at - from >= STALE_MS - 50 && second.at - from <= STALE_MS + 50, `${second.at - from}`);
    assert.equal(sim.closed, 0, 'the old peer is kept');
    sim.agent.frozen.clear();
    sim.until(() => sim.live && sim.closed === 1, 1000);
    assert.equal(sim.link.summary.current?.id, 2);
    assert.equal(sim.effects('close')[0].bye.t, 'bye');
  });

  test('the old peer that comes back by itself is kept', () => {
    const sim = running();
    sim.agent.answerMs = 800;
    sim.agent.frozen = new Set(['a', 'b']);
    sim.until(() => sim.opened === 2, 3000);
    sim.agent.frozen.clear();
    sim.run(300);
    assert.equal(sim.link.summary.current?.id, 1);
    assert.equal(sim.link.summary.next, null);
    assert.ok(sim.live);
  });

  test('a camera that stays dark although the agent calls it live is tried ever more seldom', () => {
    const sim = running();
    sim.agent.frozen = new Set(['b']);
    sim.run(120_000);
    const tries = sim.effects('open').length - 1;
    assert.ok(tries >= 2 && tries <= 7, `${tries}`);
    assert.equal(sim.link.view('a', sim.now).phase, 'live');
    assert.equal(sim.link.view('b', sim.now).phase, 'reconnecting');
    sim.agent.frozen.clear();
    sim.until(() => sim.live, 100);
  });

  test('a camera that is off is no reason to reconnect', () => {
    const sim = running();
    sim.agent.phases = { b: 'retrying' };
    sim.event({ type: 'message', peer: 1, message: { v: 1, t: 'state', cameras: [{ ...sim.state('b'), text: 'No signal.' }] } });
    sim.run(30_000);
    assert.equal(sim.opened, 1);
    assert.deepEqual(sim.link.view('b', sim.now), { phase: 'off', text: 'No signal.', age: sim.link.view('b', sim.now).age });
    sim.agent.phases = {};
    sim.event({ type: 'message', peer: 1, message: { v: 1, t: 'state', cameras: [sim.state('b')] } });
    sim.until(() => sim.live, 200);
    assert.equal(sim.opened, 1);
  });

  test('agent killed and restarted: back within 3 s of its return, through each door, at any moment', () => {
    for (const door of ['whep', 'mqtt']) {
      for (let seed = 1; seed <= 60; seed++) {
        const sim = running({ seed }, door);
        const random = seeded(seed * 7919);
        sim.run(random() * 3000);
        sim.killAgent();
        if (door === 'mqtt') sim.after(random() * 500, () => sim.event({ type: 'presence', up: false, epoch: 'e1' }));
        sim.run(random() ** 3 * 90_000);
        sim.startAgent('e2');
        if (door === 'mqtt') sim.after(300, () => sim.event({ type: 'presence', up: true, epoch: 'e2' }));
        const took = sim.until(() => sim.live && sim.link.summary.current?.dead === null && sim.peers.get(sim.link.summary.current.id)?.epoch === 'e2', 6000);
        assert.ok(took < 3000, `${door} seed ${seed}: ${took} ms`);
      }
    }
  });

  test('a broker that dies stops no picture, and its return changes nothing', () => {
    const sim = running({}, 'mqtt');
    sim.event({ type: 'door', door: 'mqtt', ready: false, down: true });
    sim.event({ type: 'presence', up: null, epoch: null });
    const before = sim.frames;
    sim.run(20_000);
    assert.ok(sim.frames - before > 900);
    assert.ok(sim.live);
    sim.event({ type: 'door', door: 'mqtt', ready: true });
    sim.event({ type: 'presence', up: true, epoch: 'e1' });
    sim.run(5000);
    assert.equal(sim.opened, 1);
  });

  test('the broker is blamed only where it is the only way and no picture comes', () => {
    const sim = running({}, 'mqtt');
    sim.event({ type: 'door', door: 'mqtt', ready: false, down: true });
    sim.run(1000);
    assert.equal(sim.link.view('a', sim.now).phase, 'live');
    sim.killAgent();
    sim.run(5000);
    assert.deepEqual([sim.link.view('a', sim.now).phase, sim.link.view('a', sim.now).text], ['unreachable', 'broker']);
  });

  test('an agent that restarted is noticed by its epoch at once', () => {
    const sim = running({}, 'mqtt');
    sim.killAgent();
    sim.startAgent('e2');
    const from = sim.now;
    sim.event({ type: 'presence', up: true, epoch: 'e2' });
    assert.equal(sim.opened, 2);
    sim.until(() => sim.link.summary.current?.id === 2 && sim.live, 300);
    assert.ok(sim.now - from < 200);
  });

  test('an agent that says it is back is asked at once, whatever the wait', () => {
    const sim = new Sim();
    sim.refuse = () => ({ code: 503, message: 'Too many viewers.', retry_s: 30 });
    sim.start('mqtt');
    sim.run(1000);
    sim.event({ type: 'presence', up: false, epoch: 'e1' });
    sim.refuse = () => null;
    sim.run(1000);
    const from = sim.now;
    sim.event({ type: 'presence', up: true, epoch: 'e1' });
    assert.equal(sim.effects('offer').at(-1).at, from);
    sim.until(() => sim.live, 200);
  });

  test('the late will of an earlier run says nothing', () => {
    const sim = running({}, 'mqtt');
    sim.event({ type: 'presence', up: true, epoch: 'e1' });
    sim.event({ type: 'presence', up: false, epoch: 'e0' });
    assert.equal(sim.link.summary.agent.up, true);
  });

  test('a bye, a closed channel, a failed connection: at once', () => {
    /** @type {any[]} */
    const ends = [
      { type: 'message', peer: 1, message: { v: 1, t: 'bye', sid: 'x', reason: 'stopping' } },
      { type: 'channel', peer: 1, open: false },
      { type: 'connection', peer: 1, state: 'failed' },
    ];
    for (const end of ends) {
      const sim = running();
      sim.event(end);
      assert.equal(sim.opened, 2, end.type);
      sim.until(() => sim.link.summary.current?.id === 2 && sim.live, 300);
    }
  });

  test('an offer that nobody saw is offered again by the same peer', () => {
    const sim = new Sim();
    sim.agent.up = false;
    sim.start();
    sim.run(20_000);
    assert.equal(sim.opened, 1);
    assert.ok(sim.effects('offer').length > 8);
    assert.deepEqual([sim.link.view('a', sim.now).phase, sim.link.view('a', sim.now).text], ['unreachable', 'agent']);
  });

  test('waits grow and are jittered', () => {
    const sim = new Sim({ seed: 3 });
    sim.agent.up = false;
    sim.start();
    sim.run(20_000);
    const times = sim.effects('offer').map((each) => each.at);
    const waits = times.slice(1).map((at, i) => at - times[i]);
    assert.ok(waits[0] < 300, `${waits[0]}`);
    assert.ok(Math.max(...waits) <= 1510, `${Math.max(...waits)}`);
    assert.ok(new Set(waits.slice(4)).size > 3, 'no two alike');
  });
});

describe('the page is hidden', () => {
  test('nothing is sent after three seconds, and the picture resumes at once', () => {
    const sim = running();
    sim.visible = false;
    sim.event({ type: 'visible', visible: false, keep: false });
    sim.run(2_900);
    assert.equal(sim.effects('send').length, 0);
    sim.run(200);
    assert.deepEqual(sim.effects('send').map((each) => each.message.layer), ['off', 'off']);
    sim.run(60_000);
    assert.equal(sim.opened, 1, 'no watchdog while hidden');
    sim.visible = true;
    sim.event({ type: 'visible', visible: true, keep: false });
    assert.deepEqual(sim.effects('send').slice(2).map((each) => each.message.layer), ['auto', 'auto']);
    sim.until(() => sim.live, 100);
    assert.equal(sim.opened, 1);
  });

  test('a glance away changes nothing', () => {
    const sim = running();
    sim.visible = false;
    sim.event({ type: 'visible', visible: false, keep: false });
    sim.run(2500);
    sim.visible = true;
    sim.event({ type: 'visible', visible: true, keep: false });
    sim.run(3000);
    assert.equal(sim.effects('send').length, 0);
    assert.equal(sim.opened, 1);
  });

  test('picture-in-picture keeps it running', () => {
    const sim = running();
    sim.event({ type: 'visible', visible: false, keep: true });
    sim.run(60_000);
    assert.equal(sim.effects('send').length, 0);
    assert.ok(sim.live);
  });

  test('after five minutes the connection is given up, and made anew on return', () => {
    const sim = running();
    sim.visible = false;
    sim.event({ type: 'visible', visible: false, keep: false });
    sim.run(301_000);
    assert.equal(sim.closed, 1);
    sim.visible = true;
    sim.event({ type: 'visible', visible: true, keep: false });
    sim.until(() => sim.live, 200);
  });

  test('a phone that slept: a dead connection is found out within a second', () => {
    const sim = running();
    sim.killAgent();
    sim.startAgent('e2');
    sim.event({ type: 'woke' });
    const took = sim.until(() => sim.link.summary.current?.id === 2 && sim.live, 3000);
    assert.ok(took < 1200, `${took}`);
  });

  test('a phone that slept: a live connection is kept', () => {
    const sim = running();
    sim.event({ type: 'woke' });
    sim.run(5000);
    assert.equal(sim.opened, 1);
  });
});

describe('pictures that are seldom on purpose', () => {
  /** Keyframes alone, one in four seconds. @param {string} limit @param {string[]} [cameras] */
  function seldom(limit, cameras) {
    const sim = running({ cameras });
    sim.flows('a', { limit, text: 'The camera cannot send less.' });
    sim.agent.every = { a: 4000 };
    sim.run(8000);
    return sim;
  }

  test('they are no reason to reconnect while the agent answers', () => {
    for (const limit of ['network', 'uplink', 'camera', 'board']) {
      const sim = seldom(limit);
      sim.run(120_000);
      assert.equal(sim.opened, 1, limit);
      const view = sim.link.view('a', sim.now);
      assert.equal(view.phase, 'live');
      assert.equal(sim.link.facts('a', sim.now).flow?.text, 'The camera cannot send less.');
      // It is asked in between, and not more often than every two seconds.
      const pings = sim.effects('ping').length;
      assert.ok(pings >= 20 && pings <= 70, `${pings}`);
    }
  });

  test('without the agent saying so they are', () => {
    for (const limit of ['none', 'wish']) assert.ok(seldom(limit).opened > 1, limit);
  });

  test('an agent that no longer answers is left after five seconds', () => {
    const sim = seldom('network', ['a']);
    sim.until(() => (sim.link.view('a', sim.now).age ?? 99) < 20, 5000);
    sim.agent.deaf = true;
    sim.agent.frozen = new Set(['a']);
    const took = sim.until(() => sim.opened === 2, 6000);
    assert.ok(took >= 4500 && took <= 5100, `${took}`);
    sim.agent.deaf = false;
    sim.agent.frozen.clear();
    sim.until(() => sim.link.summary.current?.id === 2 && sim.live, 1000);
  });

  test('nothing at all for twelve seconds is a reason, whatever the agent says', () => {
    const sim = seldom('camera');
    sim.agent.frozen = new Set(['a']);
    const took = sim.until(() => sim.opened === 2, 20_000);
    assert.ok(took >= 8000 && took <= 13_000, `${took}`);
  });

  test('a new connection begins without what was said on the old one', () => {
    const sim = seldom('camera');
    sim.event({ type: 'connection', peer: 1, state: 'failed' });
    sim.until(() => sim.link.summary.current?.id === 2, 1000);
    assert.equal(sim.link.facts('a', sim.now).flow, null);
  });
});

describe('quality', () => {
  test('a layer is asked for once, after the first picture came as it comes', () => {
    const sim = new Sim({ layers: ['main', 'sub'] });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a:sub', 'b');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.until(() => sim.live, 500);
    sim.run(5000);
    assert.deepEqual(sim.effects('send').map(({ message }) => [message.mid, message.layer]), [['0', 'sub']]);
    sim.want('a', 'b:main');
    assert.deepEqual(sim.wishes, { a: 'auto', b: 'main' });
    assert.equal(sim.opened, 1);
  });

  test('pictures without delay are asked for while somebody drives by them, and no longer', () => {
    const sim = new Sim();
    sim.event({ type: 'hello', hello: sim.hello() });
    const want = (/** @type {'least' | undefined} */ delay) => sim.event({ type: 'wanted', cameras: ['a', 'b'].map((camera) => ({ camera, active: true, delay })) });
    want(undefined);
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.until(() => sim.live, 500);
    sim.run(3000);
    want('least');
    sim.run(3000);
    want(undefined);
    sim.run(3000);
    const told = sim.effects('send').map(({ message }) => [message.mid, message.layer, message.delay]);
    assert.deepEqual(told, [['0', 'auto', 'least'], ['1', 'auto', 'least'], ['0', 'auto', undefined], ['1', 'auto', undefined]]);
  });

  test('it holds for the new connection after a break, and after the page was hidden', () => {
    const sim = new Sim({ layers: ['main', 'sub'] });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a:sub', 'b:sub');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.until(() => sim.live, 500);
    sim.event({ type: 'connection', peer: 1, state: 'failed' });
    sim.until(() => sim.link.summary.current?.id !== 1 && sim.live, 1000);
    assert.deepEqual(sim.wishes, { a: 'sub', b: 'sub' });
    sim.event({ type: 'visible', visible: (sim.visible = false), keep: false });
    sim.run(4000);
    assert.deepEqual(sim.wishes, { a: 'off', b: 'off' });
    sim.event({ type: 'visible', visible: (sim.visible = true), keep: false });
    assert.deepEqual(sim.wishes, { a: 'sub', b: 'sub' });
  });

  test('a layer that the agent does not have gives way to its own choice', () => {
    const sim = running({ layers: ['main'] });
    sim.want('a:gone', 'b');
    sim.run(3000);
    assert.deepEqual(sim.effects('send').map(({ message }) => message.layer), ['gone', 'auto']);
    assert.ok(sim.live);
    sim.want('a:main', 'b');
    assert.deepEqual(sim.wishes, { a: 'main', b: 'auto' });
  });
});

describe('other cameras', () => {
  test('another camera is added by a new offer over the channel', () => {
    const one = new Sim({ cameras: ['a', 'b', 'c'] });
    one.event({ type: 'hello', hello: one.hello() });
    one.want('a');
    one.event({ type: 'door', door: 'whep', ready: true });
    one.run(300);
    one.want('a', 'b', 'c');
    one.until(() => one.live, 300);
    const offers = one.effects('offer');
    assert.deepEqual([offers[1].door, offers[1].n, offers[1].cameras], ['channel', 2, { 0: 'a', 1: 'b', 2: 'c' }]);
    assert.equal(one.opened, 1);
  });

  test('an answer to an earlier offer is not taken for that of the present one', () => {
    const sim = new Sim({ cameras: ['a', 'b'] });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.run(300);
    sim.agent.answerMs = 500;
    sim.want('a', 'b');
    sim.run(100);
    const answers = sim.effects('answer').length;
    sim.event({ type: 'message', peer: 1, message: { v: 1, t: 'answer', sid: sim.peers.get(1)?.sid, n: 1, sdp: 'v=0', cameras: {} } });
    assert.equal(sim.effects('answer').length, answers);
    sim.until(() => sim.live, 1000);
    assert.equal(sim.effects('answer').length, answers + 1);
  });

  test('nothing is asked of a session before the agent has said what it is called', () => {
    const sim = new Sim();
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.event({ type: 'wanted', cameras: [{ camera: 'a', active: true, layer: 'low' }] });
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.agent.up = false;
    sim.event({ type: 'prepared', peer: 1, mids: ['0'] });
    const sid = sim.peers.get(1)?.sid;
    sim.event({ type: 'message', message: { t: 'answer', sid, n: 1, sdp: '', cameras: { 0: 'a' } } });
    sim.event({ type: 'connection', peer: 1, state: 'connected' });
    sim.event({ type: 'channel', peer: 1, open: true });
    const wishes = () => sim.effects('send').filter(({ message }) => message.t === 'quality').map(({ message }) => message.sid);
    assert.deepEqual(wishes(), []);
    sim.event({ type: 'message', peer: 1, message: { ...sim.hello(), sid: 'as-the-agent-calls-it' } });
    assert.deepEqual(wishes(), ['as-the-agent-calls-it']);
  });

  test('frames that are only decoded keep a picture alive, but are not its first', () => {
    const sim = new Sim();
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.agent.frozen.add('a');
    sim.run(300);
    sim.event({ type: 'frame', peer: 1, mid: '0', decoded: true });
    assert.equal(sim.link.view('a', sim.now).phase, 'connecting');
    sim.event({ type: 'frame', peer: 1, mid: '0' });
    for (let i = 0; i < 20; i++) {
      sim.run(500);
      sim.event({ type: 'frame', peer: 1, mid: '0', decoded: true });
    }
    assert.equal(sim.link.view('a', sim.now).phase, 'live');
    assert.equal(sim.opened, 1);
  });

  test('frames that come before a switch is done are of the camera before', () => {
    const sim = new Sim({ cameras: ['a', 'b'] });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.run(300);
    sim.want('b');
    sim.event({ type: 'frame', peer: 1, mid: '0' });
    const age = sim.link.view('a', sim.now).age;
    assert.notEqual(age, 0, 'nobody watches a any more');
    assert.equal(sim.link.view('b', sim.now).phase, 'connecting');
  });

  test('another camera in the place of one is switched without an offer', () => {
    const sim = new Sim({ cameras: ['a', 'b'] });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.run(300);
    sim.want('b');
    sim.until(() => sim.link.view('b', sim.now).phase === 'live', 200);
    assert.equal(sim.effects('offer').length, 1);
    assert.deepEqual(sim.effects('send').map((each) => each.message.t), ['switch']);
    assert.deepEqual(sim.effects('detach').map((each) => each.camera), ['a']);
    assert.deepEqual(sim.effects('attach').map((each) => each.camera), ['a', 'b']);
  });

  test('one that is out of sight is not sent, and comes back without an offer', () => {
    const sim = running();
    sim.want('a', 'b-');
    sim.run(5000);
    assert.deepEqual(sim.effects('send').map((each) => [each.message.mid, each.message.layer]), [['1', 'off']]);
    assert.equal(sim.opened, 1);
    assert.equal(sim.link.view('b', sim.now).phase, 'resuming', 'nothing needs to be said');
    sim.want('a', 'b');
    assert.equal(sim.link.view('b', sim.now).phase, 'resuming');
    sim.until(() => sim.live, 100);
    assert.equal(sim.effects('offer').length, 1);
  });

  test('a refused addition leaves the others alone', () => {
    const sim = new Sim({ cameras: ['a', 'b'] });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.want('a');
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.run(300);
    sim.refuse = (offer) => (offer.n > 1 ? { code: 404, message: 'There is no camera b.' } : null);
    sim.want('a', 'b');
    sim.run(5000);
    assert.equal(sim.effects('rollback').length, 1);
    assert.equal(sim.link.view('a', sim.now).phase, 'live');
    assert.deepEqual([sim.link.view('b', sim.now).phase, sim.link.view('b', sim.now).text], ['refused', 'There is no camera b.']);
    assert.equal(sim.effects('offer').length, 2, 'not asked again at once');
  });

  test('nothing wanted any more: the connection ends after a moment', () => {
    const sim = running();
    sim.want();
    sim.run(2000);
    assert.equal(sim.closed, 0);
    sim.run(2000);
    assert.equal(sim.closed, 1);
    assert.equal(sim.link.nextDeadline(sim.now), null);
  });
});

describe('refusals', () => {
  /** @param {any} error */
  function refused(error) {
    const sim = new Sim();
    sim.refuse = () => error;
    sim.start();
    sim.run(10_000);
    return sim;
  }

  test('401 waits for the person', () => {
    const sim = refused({ code: 401, message: 'Sign in.' });
    assert.equal(sim.effects('offer').length, 1);
    assert.equal(sim.link.view('a', sim.now).phase, 'signin');
    sim.refuse = () => null;
    sim.event({ type: 'authorized' });
    assert.equal(sim.link.view('a', sim.now).text, '', 'what was asked for is not said any more');
    sim.until(() => sim.live, 300);
  });

  test('406 is said, and tried again when the person asks', () => {
    const sim = refused({ code: 406, message: 'This browser has no H.264.' });
    assert.equal(sim.effects('offer').length, 1);
    assert.deepEqual([sim.link.view('a', sim.now).phase, sim.link.view('a', sim.now).text], ['refused', 'This browser has no H.264.']);
    sim.refuse = () => null;
    sim.event({ type: 'retry' });
    sim.until(() => sim.live, 300);
  });

  test('409 asks for the present hello and tries again', () => {
    const sim = new Sim();
    let times = 0;
    sim.refuse = () => (times++ ? null : { code: 409, message: 'The agent was restarted.' });
    sim.start();
    sim.until(() => sim.live, 1000);
    assert.equal(sim.effects('refresh').length, 1);
  });

  test('503 with a time to wait is not asked before', () => {
    const sim = refused({ code: 503, message: 'Too many viewers.', retry_s: 4 });
    const times = sim.effects('offer').map((each) => each.at);
    assert.ok(times[1] - times[0] >= 4000, `${times[1] - times[0]}`);
    assert.equal(sim.opened, sim.closed + 1, 'none is left behind');
    const { phase, text } = sim.link.view('a', sim.now);
    assert.deepEqual([phase, text], ['connecting', 'Too many viewers.'], 'the person is told why');
    sim.refuse = () => null;
    sim.until(() => sim.live, 30_000);
    assert.equal(sim.link.view('a', sim.now).text, '');
  });

  test('more cameras in sight than a page carries are told so', () => {
    const sim = new Sim({ cameras: Array.from({ length: 18 }, (_, place) => `c${place}`) });
    sim.start();
    sim.until(() => sim.link.view('c0', sim.now).phase === 'live', 3000);
    assert.equal(sim.link.view('c15', sim.now).phase, 'live');
    assert.match(sim.link.view('c17', sim.now).text, /^16 cameras at once/);
  });
});

test('an agent without cameras: a peer that carries data only, kept and made anew', () => {
  const sim = new Sim({ cameras: [] });
  sim.event({ type: 'hello', hello: sim.hello() });
  sim.event({ type: 'wanted', cameras: [] });
  sim.event({ type: 'door', door: 'whep', ready: true });
  sim.run(10_000);
  assert.equal(sim.opened, 0, 'not wanted');
  sim.event({ type: 'wanted', cameras: [], data: true });
  const first = () => sim.link.summary.current;
  sim.until(() => first()?.open === true, 5000);
  sim.run(60_000);
  assert.equal(sim.opened, 1);
  assert.deepEqual(first()?.lines, []);
  const id = /** @type {any} */ (first()).id;
  sim.event({ type: 'connection', peer: id, state: 'failed' });
  sim.until(() => first()?.open === true && first()?.id !== id, 10_000);
  sim.event({ type: 'wanted', cameras: [], data: false });
  sim.run(10_000);
  assert.equal(sim.opened, sim.closed);
});

test('answers and candidates of another session, another number or no session change nothing', () => {
  const sim = running();
  const before = JSON.stringify(sim.link.summary);
  const log = sim.log.length;
  for (const message of [
    { t: 'answer', sid: 'unknown0', n: 1, sdp: 'v=0', cameras: {} },
    { t: 'answer', sid: sim.link.summary.current?.sid, n: 7, sdp: 'v=0', cameras: {} },
    { t: 'answer', sid: sim.link.summary.current?.sid, n: 1, sdp: 'v=0', cameras: {} },
    { t: 'bye', sid: 'unknown0' },
    { t: 'error', code: 400, message: 'What?' },
    { t: 'done', sid: sim.link.summary.current?.sid, id: 99 },
    { t: 'nonsense' },
  ]) {
    sim.event({ type: 'message', message });
  }
  assert.equal(JSON.stringify(sim.link.summary), before);
  assert.equal(sim.log.length, log);
});

test('whatever happens, in whatever order: no peer is left behind, and a good world ends live', () => {
  for (let seed = 1; seed <= 120; seed++) {
    const random = seeded(seed);
    const pick = (/** @type {any[]} */ list) => list[Math.floor(random() * list.length)];
    const sim = new Sim({ seed, cameras: ['a', 'b', 'c'] });
    sim.start(pick(['whep', 'mqtt', '']));
    for (let step = 0; step < 80; step++) {
      const id = pick([...sim.peers.keys(), 999]);
      pick([
        () => sim.killAgent(),
        () => sim.startAgent(`e${step}`),
        () => (sim.agent.frozen = new Set(pick([[], ['a'], ['a', 'b', 'c']]))),
        () => (sim.doors[/** @type {'whep'} */ (pick(['whep', 'mqtt']))] = pick(['ok', 'lost', 'refused'])),
        () => sim.event({ type: 'door', door: pick(['whep', 'mqtt']), ready: random() < 0.7 }),
        () => sim.event({ type: 'presence', up: pick([true, false, null]), epoch: pick([sim.agent.epoch, 'e0', null]) }),
        () => sim.event({ type: 'hello', hello: sim.hello() }),
        () => sim.event({ type: 'visible', visible: (sim.visible = random() < 0.6), keep: false }),
        () => sim.event({ type: 'woke' }),
        () => sim.event({ type: 'retry' }),
        () => sim.event({ type: 'connection', peer: id, state: pick(['connected', 'disconnected', 'failed', 'closed']) }),
        () => sim.event({ type: 'channel', peer: id, open: random() < 0.5 }),
        () => sim.event({ type: 'prepared', peer: id, mids: ['0', '1'] }),
        () => sim.event({ type: 'unreachable', peer: id }),
        () => sim.event({ type: 'broken', peer: id, reason: 'test' }),
        () => sim.event({ type: 'frame', peer: id, mid: pick(['0', '1', '9']) }),
        () => sim.event({ type: 'message', message: { t: 'error', sid: sim.peers.get(id)?.sid, n: 1, code: pick([400, 404, 406, 503]), message: 'no' } }),
        () => sim.event({ type: 'message', peer: id, message: { t: 'bye', sid: 'x' } }),
        () => sim.want(...pick([['a'], ['a', 'b', 'c'], ['c', 'a-'], []])),
        () => (sim.agent.phases = pick([{}, { a: 'retrying' }, { b: 'starting' }])),
        () => sim.flows(pick(['a', 'b']), { limit: pick(['none', 'network', 'camera', 'wish']) }),
        () => (sim.agent.every = pick([{}, { a: 3000 }])),
        () => sim.want(...pick([['a:main', 'b'], ['a:gone', 'c-']])),
      ])();
      sim.run(random() ** 2 * 4000);
      assert.ok(sim.opened - sim.closed <= 3, `seed ${seed}: ${sim.opened - sim.closed} peers`);
    }
    Object.assign(sim.agent, { up: true, frozen: new Set(), phases: {}, every: {} });
    sim.startAgent('last');
    sim.doors = { whep: 'ok', mqtt: 'ok' };
    sim.visible = true;
    sim.event({ type: 'visible', visible: true, keep: false });
    sim.event({ type: 'door', door: 'whep', ready: true });
    sim.event({ type: 'door', door: 'mqtt', ready: true });
    sim.event({ type: 'presence', up: true, epoch: 'last' });
    sim.event({ type: 'hello', hello: sim.hello() });
    sim.event({ type: 'retry' });
    sim.want('a', 'b', 'c');
    try {
      sim.until(() => sim.live, 90_000);
    } catch (error) {
      assert.fail(`seed ${seed}: ${error}`);
    }
    sim.want();
    sim.run(10_000);
    assert.equal(sim.opened, sim.closed, `seed ${seed}`);
  }
});

test('it keeps no browser objects and needs none', () => {
  assert.equal(new Link().nextDeadline(0), null);
  assert.equal(new Link().view('a', 0).phase, 'connecting');
});
