// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { along, FROZEN_MS, HISTORY_MS, PERIOD_MS, Refusal, Wheel } from '../../edgeagent/web/control.js';
import { AIR, FakeAgent, LAMP, ROVER } from './support/fake-agent.js';
import { seeded } from './support/sim.js';

/** One who drives, with a picture that moves 25 times a second unless it is frozen. */
class Driver {
  frozen = false;
  /** @param {FakeAgent} agent @param {import('./support/fake-agent.js').Viewer} viewer */
  constructor(agent, viewer) {
    this.agent = agent;
    this.viewer = viewer;
    this.control = viewer.control;
    this.wheel = new Wheel(viewer.control, 'drive');
  }

  /** @param {number} ms */
  run(ms) {
    const end = this.agent.now + ms;
    while (this.agent.now < end) {
      this.agent.now += 5;
      if (!this.frozen && this.agent.now % 40 === 0) this.wheel.shown = { rtp: this.agent.now * 90, mid: '0', at: this.agent.now };
      if (this.agent.now % PERIOD_MS === 0) this.wheel.tick(this.agent.now);
    }
  }

  get state() {
    return this.control.group('drive')?.state;
  }

  async arm() {
    this.run(100);
    await this.control.lease('drive', 'request', this.agent.now);
    this.run(100);
    assert.equal(this.state, 'armed');
  }
}

/** @param {...string} rights */
function setup(...rights) {
  const agent = new FakeAgent();
  return { agent, driver: new Driver(agent, agent.viewer('me', ...(rights.length ? rights : ['operate']))) };
}

describe('what is known', () => {
  test('devices come in parts, change and go', () => {
    const agent = new FakeAgent({ devices: [ROVER] });
    const { control } = agent.viewer('me');
    const names = () => control.store.state.devices.map((each) => each.name);
    const tell = (/** @type {any} */ devices, /** @type {string[]} */ gone = []) => control.message(JSON.stringify({ t: 'devices', you: 'me', name: '', rights: ['watch'], devices, gone }), 0);
    tell([LAMP]);
    tell([AIR]);
    assert.deepEqual(names(), ['rover', 'lamp', 'air']);
    tell([{ ...LAMP, phase: 'retrying' }], ['rover']);
    assert.deepEqual(names(), ['lamp', 'air']);
    assert.equal(control.store.state.devices[0].phase, 'retrying');
    control.closed();
    assert.deepEqual(names(), ['lamp', 'air'], 'what was known stays while it reconnects');
    control.opened();
    tell([ROVER]);
    assert.deepEqual(names(), ['rover'], 'a new channel tells all');
    assert.deepEqual(control.drivable, ['drive']);
  });

  test('a minute of readings is kept, and no more points than can be drawn', () => {
    const { agent, driver } = setup();
    for (let i = 0; i < 3500; i++) {
      agent.now += 20;
      agent.values.air.temperature = 20 + i / 1000;
      agent.read();
    }
    const trace = driver.control.trace('air', 'temperature');
    assert.ok(trace.length > 200 && trace.length <= 242, `${trace.length}`);
    assert.ok(agent.now - trace[1].at <= HISTORY_MS);
    assert.equal(driver.control.value('air', 'temperature'), agent.values.air.temperature, 'the newest is never left out');
    assert.equal(driver.control.value('air', 'nothing'), null);
  });

  test('alarms come and go', () => {
    const { driver } = setup();
    const alarm = { t: 'alarm', device: 'rover', key: 'battery', on: true, level: 'warning', text: 'The battery is low.' };
    driver.control.message(JSON.stringify(alarm), 0);
    driver.control.message(JSON.stringify({ ...alarm, level: 'danger' }), 0);
    assert.deepEqual(driver.control.store.state.alarms.map((each) => each.level), ['danger']);
    driver.control.message(JSON.stringify({ ...alarm, on: false }), 0);
    assert.deepEqual(driver.control.store.state.alarms, []);
  });

  test('nonsense is dropped', () => {
    const { driver } = setup();
    const before = driver.control.store.state;
    for (const text of ['', 'null', '[]', '{"t":"nothing"}', '{', '7', '{"t":"result","id":99}', '{"t":"refused","id":null,"code":400,"message":"no"}']) driver.control.message(text, 0);
    assert.equal(driver.control.store.state, before);
  });
});

describe('requests', () => {
  test('are answered, refused, or given up', async () => {
    const { agent, driver } = setup();
    const { control } = driver;
    assert.equal(await control.command('rover', 'home', {}, agent.now), 'It is on its way.');
    await assert.rejects(control.signIn('wrong', agent.now), { code: 403, message: 'That token is not right.' });
    agent.deaf = true;
    const waiting = control.command('lamp', 'switch', { on: true }, agent.now);
    control.tick(agent.now + 4999);
    const late = assert.rejects(waiting, { code: 0, message: 'The agent did not answer.' });
    control.tick(agent.now + 5000);
    await late;
    const lost = assert.rejects(control.stop(agent.now), Refusal);
    control.closed();
    await lost;
    driver.viewer.open = false;
    await assert.rejects(control.stop(agent.now), { message: 'There is no connection at the moment.' });
  });

  test('signing in gives rights', async () => {
    const { agent, driver } = setup('nothing');
    assert.equal(driver.control.operates, false);
    await assert.rejects(driver.control.lease('drive', 'request', agent.now), { code: 403 });
    await driver.control.signIn('a token of sixteen', agent.now);
    assert.equal(driver.control.operates, true);
    assert.equal(driver.control.store.state.devices.length, 3, 'the devices are still known');
    assert.equal(driver.control.token, '', 'a ticket serves once');
    await driver.control.signIn('a token of sixteen', agent.now, { keep: true });
    await assert.rejects(driver.control.signIn('wrong', agent.now, { keep: true }));
    assert.equal(driver.control.token, 'a token of sixteen', 'what a person typed serves the next connection');
  });
});

describe('the wheel', () => {
  test('sends nothing without a lease, and 50 set-points a second with one, the picture beside them', async () => {
    const { agent, driver } = setup();
    driver.wheel.hands.throttle = 1;
    driver.run(500);
    assert.equal(agent.heard.length, 0);
    driver.wheel.hands.throttle = 0;
    await driver.arm();
    agent.heard.length = 0;
    driver.run(1000);
    const sets = agent.heard.filter((each) => each.t === 'set');
    assert.ok(sets.length >= 49 && sets.length <= 51, `${sets.length}`);
    assert.deepEqual(sets.map((each) => each.seq), sets.map((_, i) => sets[0].seq + i));
    for (const set of sets) assert.ok(set.mid === '0' && set.rtp > 0 && set.channel === 'control');
  });

  test('does not move before the hands were off', async () => {
    const { agent, driver } = setup();
    driver.run(100);
    driver.wheel.hands.throttle = 0.5;
    await driver.control.lease('drive', 'request', agent.now);
    driver.run(500);
    assert.equal(driver.state, 'disarmed');
    assert.equal(agent.moved.length, 0);
    driver.wheel.hands.throttle = 0;
    driver.run(40);
    driver.wheel.hands.throttle = 0.5;
    driver.wheel.hands.steer = -1;
    driver.run(40);
    assert.deepEqual(agent.moved.at(-1).values, { rover: { throttle: 0.5, steer: -1 } });
  });

  test('a stick moves a held place, which stays when it is let go and rests in a new lease', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    driver.wheel.hands.pan = 1;
    driver.run(400);
    const { pan } = agent.moved.at(-1).values.rover;
    assert.ok(pan > 30 && pan < 60, `${pan}`);
    driver.wheel.hands.pan = 0;
    driver.run(200);
    assert.equal(agent.moved.at(-1).values.rover.pan, pan);
    driver.wheel.hands.pan = 1;
    driver.run(3000);
    assert.equal(agent.moved.at(-1).values.rover.pan, 90);
    driver.wheel.centre();
    driver.wheel.hands.pan = 0;
    driver.run(40);
    assert.equal(agent.moved.at(-1).values.rover.pan, 0);
    driver.wheel.hands.pan = -1;
    driver.run(100);
    driver.wheel.hands.pan = 0;
    await driver.control.lease('drive', 'release', agent.now);
    driver.run(100);
    await driver.arm();
    assert.deepEqual(agent.moved.at(-1).values.rover, { throttle: 0, steer: 0 }, 'left out, so it stays where it is');
    driver.wheel.hands.pan = 1;
    driver.run(20);
    const place = agent.moved.at(-1).values.rover.pan;
    assert.ok(place > -15 && place < 0, `${place}: it goes on from where it was put`);
  });

  for (const end of /** @type {const} */ (['stop', 'lost stop', 'silence']))
    test(`a place is given up for good: ${end}`, async () => {
      const { agent, driver } = setup();
      await driver.arm();
      driver.wheel.hands.pan = 1;
      driver.run(400);
      driver.wheel.hands.pan = 0;
      driver.run(100);
      assert.ok(agent.moved.at(-1).values.rover.pan > 30);
      if (end === 'silence') agent.tellGroup({ state: 'disarmed', why: 'silence' });
      else {
        agent.deaf = end === 'lost stop';
        const stopped = driver.control.stop(agent.now);
        driver.run(100);
        driver.control.tick(agent.now + 5000);
        await stopped.catch(() => {});
        agent.deaf = false;
        if (end === 'stop') await driver.control.reset(agent.now);
        if (end === 'stop') driver.wheel.centre();
      }
      agent.moved.length = 0;
      driver.run(400);
      assert.equal(driver.state, 'armed');
      assert.ok(agent.moved.length > 0);
      for (const { values } of agent.moved) assert.deepEqual(values.rover, { throttle: 0, steer: 0 }, 'it stays where it was stopped');
    });

  test('a place is given up for a command of its device, and of no other', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    driver.wheel.hands.pan = 1;
    driver.run(400);
    driver.wheel.hands.pan = 0;
    await driver.control.command('lamp', 'switch', { on: true }, agent.now);
    driver.run(40);
    assert.ok(agent.moved.at(-1).values.rover.pan > 30);
    const done = driver.control.command('rover', 'home', {}, agent.now);
    driver.run(40);
    assert.deepEqual(agent.moved.at(-1).values.rover, { throttle: 0, steer: 0 }, 'it stays where the command has put it');
    await done;
  });

  for (const end of ['halt', 'stop', 'command', 'refused command'])
    test(`the stick goes on from where it has put a mount that tells no place: ${end}`, async () => {
      const { agent, driver } = setup();
      await driver.arm();
      driver.wheel.hands.pan = 1;
      driver.run(700);
      driver.wheel.hands.pan = 0;
      driver.run(40);
      const { pan } = agent.moved.at(-1).values.rover;
      assert.ok(pan > 60, `${pan}`);
      const nudge = () => {
        agent.moved.length = 0;
        driver.wheel.hands.pan = 0.2;
        driver.run(40);
        driver.wheel.hands.pan = 0;
        return agent.moved.map((each) => each.values.rover.pan);
      };
      if (end === 'halt') agent.tellGroup({ state: 'disarmed', why: 'picture' });
      if (end === 'stop') await driver.control.stop(agent.now);
      if (end === 'stop') await driver.control.reset(agent.now);
      if (end === 'command') await driver.control.command('rover', 'beep', {}, agent.now);
      if (end === 'refused command') driver.viewer.rights = ['watch'];
      if (end === 'refused command') await assert.rejects(driver.control.command('rover', 'beep', {}, agent.now));
      driver.viewer.rights = ['watch', 'operate'];
      driver.run(200);
      assert.deepEqual(agent.moved.at(-1).values.rover, { throttle: 0, steer: 0 });
      for (const place of nudge()) assert.ok(place >= pan && place < pan + 3, `${place} after ${pan}`);
      driver.run(600);
      await driver.control.command('rover', 'home', {}, agent.now);
      agent.values.rover.pan = 5;
      agent.read();
      driver.run(40);
      for (const place of nudge()) assert.ok(place >= 5 && place < 8, `${place}: a newer reading says where it is`);
      await driver.control.lease('drive', 'release', agent.now);
      driver.run(40);
      driver.run(600);
      agent.read();
      driver.run(20);
      agent.values.rover.pan = -50;
      agent.read();
      await driver.arm();
      for (const place of nudge()) assert.ok(place >= -50 && place < -47, `${place}: somebody else may have moved it`);
    });

  test('what no stick steers is put: a place stays where it is put, a speed lasts until it is let go', async () => {
    const { agent, driver } = setup();
    const other = { title: '', minimum: -1, maximum: 1, neutral: 0, unit: '', role: /** @type {const} */ ('other') };
    const [grip, belt] = [{ ...other, name: 'grip', position: true }, { ...other, name: 'belt', position: false }];
    const [rover] = driver.wheel.devices;
    driver.control.store.set({ devices: [{ ...rover, axes: [grip, belt] }] });
    driver.wheel.put('rover', belt, 0.5);
    assert.equal(driver.wheel.neutral, false);
    driver.run(100);
    await driver.control.lease('drive', 'request', agent.now);
    driver.run(500);
    assert.equal(driver.state, 'disarmed', 'not before it was let go');
    driver.wheel.put('rover', belt, 0);
    driver.run(40);
    assert.deepEqual(agent.moved.at(-1).values.rover, { belt: 0 });
    driver.wheel.put('rover', belt, 0.5);
    driver.wheel.put('rover', grip, -0.4);
    driver.run(40);
    assert.deepEqual(agent.moved.at(-1).values.rover, { grip: -0.4, belt: 0.5 });
    driver.wheel.put('rover', belt, 0);
    driver.wheel.centre();
    driver.run(200);
    assert.deepEqual(agent.moved.at(-1).values.rover, { grip: -0.4, belt: 0 });
    assert.equal(driver.wheel.placeOf('rover', grip), -0.4);
    await driver.control.lease('drive', 'release', agent.now);
    driver.run(100);
    assert.equal(driver.wheel.placeOf('rover', grip), -0.4);
    const ben = agent.viewer('ben', 'operate').control;
    await ben.lease('drive', 'request', agent.now);
    await ben.lease('drive', 'release', agent.now);
    await driver.arm();
    assert.equal(driver.wheel.placeOf('rover', grip), null, 'somebody else may have moved it');
  });

  describe('where a reading tells of a mount', () => {
    /** A rover whose mount was put somewhere, and what is read of it then. @param {(put: number) => unknown} reads */
    async function mounted(reads) {
      const { agent, driver } = setup();
      const { wheel } = driver;
      const pan = /** @type {any} */ (wheel.devices[0].axes.find((axis) => axis.name === 'pan'));
      const tell = (/** @type {unknown} */ value) => {
        agent.values.rover.pan = value;
        agent.read();
      };
      await driver.arm();
      wheel.hands.pan = 1;
      driver.run(500);
      wheel.hands.pan = 0;
      driver.run(40);
      const put = agent.moved.at(-1).values.rover.pan;
      assert.ok(put > 40, `${put}`);
      tell(reads(put));
      return {
        agent,
        driver,
        put,
        tell,
        place: () => wheel.placeOf('rover', pan),
        near: (/** @type {number} */ wanted) => {
          agent.moved.length = 0;
          wheel.hands.pan = -0.1;
          driver.run(40);
          wheel.hands.pan = 0;
          driver.run(20);
          const { pan: first } = agent.moved[0].values.rover;
          assert.ok(Math.abs(first - wanted) < 2, `${first} after ${wanted}`);
        },
      };
    }

    for (const [what, reads] of /** @type {[string, (put: number) => unknown][]} */ ([['it trembles', (put) => put - 2], ['in another unit', () => 512], ['a text', () => 'left']]))
      for (const end of ['halt', 'stop', 'command', 'lease', 'connection'])
        test(`the stick goes on from where it was put: ${what}, ${end}`, async () => {
          const { agent, driver, put, tell, near } = await mounted(reads);
          driver.run(700);
          if (end === 'halt') agent.tellGroup({ state: 'disarmed', why: 'picture' });
          else if (end === 'stop') await driver.control.stop(agent.now);
          else if (end === 'command') await driver.control.command('rover', 'beep', {}, agent.now);
          else if (end === 'lease') await driver.control.lease('drive', 'release', agent.now);
          else agent.cut(driver.viewer);
          driver.run(100);
          if (end === 'stop') await driver.control.reset(agent.now);
          if (end === 'connection') agent.greet(driver.viewer);
          if (end === 'lease' || end === 'connection') await driver.arm();
          driver.run(1000);
          tell(reads(put));
          driver.run(100);
          near(put);
        });

    test('one that has left where it was counts, whoever turned it: a hand, a command, another operator', async () => {
      const { agent, driver, put, tell, place, near } = await mounted((put) => put + 1);
      driver.run(700);
      agent.tellGroup({ state: 'disarmed', why: 'picture' });
      driver.run(700);
      tell(put + 2);
      driver.run(20);
      assert.equal(place(), put, 'it trembles');
      tell(7);
      driver.run(20);
      assert.equal(place(), 7);
      await driver.control.command('rover', 'beep', {}, agent.now);
      driver.run(20);
      assert.equal(place(), 7);
      near(7);
      driver.run(700);
      tell(6);
      await driver.control.command('rover', 'home', {}, agent.now);
      tell(-30);
      await driver.control.command('rover', 'beep', {}, agent.now);
      driver.run(20);
      near(-30);
      driver.run(700);
      await driver.control.lease('drive', 'release', agent.now);
      const ben = agent.viewer('ben', 'operate').control;
      await ben.lease('drive', 'request', agent.now);
      driver.run(100);
      tell(20);
      await ben.lease('drive', 'release', agent.now);
      await driver.arm();
      near(20);
    });

    test('what was read on the way and comes behind it is no place', async () => {
      const { agent, driver, put, tell, place, near } = await mounted(() => 30);
      agent.tellGroup({ state: 'disarmed', why: 'picture' });
      assert.equal(place(), put);
      driver.run(200);
      near(put);
      driver.run(1000);
      agent.tellGroup({ state: 'disarmed', why: 'picture' });
      driver.run(20);
      tell(30);
      assert.equal(place(), 30, 'by now it has gone back');
    });

    for (const [when, hold] of /** @type {[string, number][]} */ ([['while the stick was pushed', 0], ['behind it', 300], ['long behind it', 2000]]))
      for (const end of ['halt', 'stop', 'command'])
        test(`a slow one that was stopped on its way goes on from where it is: ${when}, ${end}`, async () => {
          const { agent, driver } = setup();
          const { wheel } = driver;
          await driver.arm();
          // 22.5° a second.
          const step = (/** @type {number} */ ms) => {
            driver.run(ms);
            agent.values.rover.pan += (22.5 * ms) / 1000;
            agent.read();
          };
          agent.values.rover.pan = 0;
          agent.read();
          wheel.hands.pan = 1;
          for (let i = 0; i < 7; i++) step(100);
          if (hold) wheel.hands.pan = 0;
          for (let i = 0; i < hold; i += 100) step(100);
          const stood = agent.values.rover.pan;
          assert.ok(agent.moved.at(-1).values.rover.pan > stood + 10);
          if (end === 'halt') agent.tellGroup({ state: 'disarmed', why: 'picture' });
          else if (end === 'stop') await driver.control.stop(agent.now);
          else await driver.control.command('rover', 'beep', {}, agent.now);
          agent.read();
          wheel.hands.pan = 0;
          driver.run(20);
          if (end === 'stop') await driver.control.reset(agent.now);
          driver.run(200);
          agent.moved.length = 0;
          wheel.hands.pan = -0.1;
          driver.run(40);
          const { pan } = agent.moved[0].values.rover;
          assert.ok(Math.abs(pan - stood) < 2, `${pan} after ${stood}`);
        });

    test('one in another unit is no place, whatever its value', async () => {
      const { driver, put, tell, place, near } = await mounted((put) => put);
      const { devices } = driver.control.store.state;
      const [rover] = driver.wheel.devices;
      const readings = rover.readings.map((each) => (each.name === 'pan' ? { ...each, unit: 'V' } : each));
      driver.control.store.set({ devices: devices.map((each) => (each === rover ? { ...rover, readings } : each)) });
      driver.run(1000);
      tell(5);
      driver.run(100);
      await driver.control.command('rover', 'beep', {}, driver.agent.now);
      driver.run(100);
      assert.equal(place(), put);
      near(put);
    });

    test('a page that is loaded anew goes on from there', async () => {
      const { agent, driver, tell } = await mounted((put) => put);
      await driver.control.lease('drive', 'release', agent.now);
      tell(-40);
      driver.wheel = new Wheel(driver.control, 'drive');
      await driver.arm();
      agent.moved.length = 0;
      driver.wheel.hands.pan = 0.1;
      driver.run(40);
      const { pan } = agent.moved[0].values.rover;
      assert.ok(pan >= -40 && pan < -38, `${pan}`);
    });

    for (const [what, reads] of /** @type {[string, number | null][]} */ ([['it tells nothing', null], ['it tells that it went home', 0], ['it tells where it stayed', 1]]))
      for (const early of [false, true])
        test(`one that is opened anew goes on from where it is: ${what}${early ? ', before that it works' : ''}`, async () => {
          const { agent, driver, put, tell, place, near } = await mounted((put) => put);
          const wanted = reads === 0 ? 0 : put;
          const { control } = driver;
          const phase = (/** @type {string} */ phase) => {
            const [rover] = control.store.state.devices.filter(({ name }) => name === 'rover');
            const { you, name, rights } = control.store.state;
            control.message(JSON.stringify({ t: 'devices', you, name, rights, devices: [{ ...rover, phase }] }), agent.now);
          };
          // At once: what it tells now looks as if it had been read on the way.
          phase('starting');
          agent.tellGroup({ state: 'disarmed', why: 'device' });
          assert.equal(control.value('rover', 'pan'), null);
          driver.run(40);
          if (early && reads !== null) tell(wanted);
          driver.run(40);
          assert.equal(control.value('rover', 'pan'), null, 'it is not said to work yet');
          phase('live');
          assert.equal(control.value('rover', 'pan'), early && reads !== null ? wanted : null);
          driver.run(100);
          if (!early && reads !== null) tell(wanted);
          driver.run(2000);
          assert.equal(driver.state, 'armed');
          assert.equal(place(), wanted);
          near(wanted);
        });
  });

  test('a picture that stands still is told once, then there is silence until it moves', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    driver.wheel.hands.throttle = 1;
    driver.run(200);
    driver.frozen = true;
    agent.heard.length = 0;
    driver.run(FROZEN_MS - 100);
    assert.ok(agent.heard.every((each) => each.t === 'set'));
    driver.run(200);
    assert.equal(driver.wheel.frozen, true);
    assert.deepEqual(agent.heard.filter((each) => each.t !== 'set').map((each) => [each.t, each.why]), [['halt', 'picture']]);
    agent.heard.length = 0;
    driver.run(3000);
    assert.deepEqual(agent.heard, []);
    agent.moved.length = 0;
    driver.frozen = false;
    driver.run(300);
    assert.equal(agent.moved.length, 0, 'the stick was never let go');
    driver.wheel.hands.throttle = 0;
    driver.run(100);
    assert.equal(driver.state, 'armed');
  });

  test('with no picture nothing is sent, unless it is driven without one', async () => {
    const { agent, driver } = setup();
    driver.frozen = true;
    await driver.control.lease('drive', 'request', agent.now);
    driver.run(1000);
    assert.deepEqual(agent.heard.filter((each) => each.t === 'set' || each.t === 'halt'), []);
    driver.wheel.seeing = false;
    driver.run(100);
    assert.equal(driver.state, 'armed');
    assert.ok(agent.moved.every((each) => !('rtp' in each)));
  });

  test('a lease waits for its first picture, and says now and then that somebody is there', async () => {
    const { agent, driver } = setup();
    driver.frozen = true;
    await driver.control.lease('drive', 'request', agent.now);
    driver.wheel.hands.throttle = 1;
    const since = agent.now;
    driver.run(60_000);
    const signs = agent.heard.filter((each) => each.t === 'set');
    assert.ok(signs.every((each) => Object.keys(each.values).length === 0 && !('rtp' in each)));
    const gaps = [since, ...signs.map((each) => each.at)].map((at, i, all) => (all[i + 1] ?? at) - at).slice(0, -1);
    // Not in the first second, in which the agent asks for no picture; and before it takes the lease from one who is silent (3 s).
    assert.ok(gaps.every((gap) => gap > 1500 && gap < 3000), `${gaps}`);
    const last = signs[signs.length - 1].at - since;
    assert.ok(last > 25_000 && last < 31_000, 'where none comes others have their turn');
    assert.ok(agent.heard.every((each) => each.t !== 'halt'));
    driver.wheel.hands.throttle = 0;
    driver.frozen = false;
    driver.run(200);
    assert.equal(driver.state, 'armed');
    driver.frozen = true;
    agent.heard.length = 0;
    driver.run(10_000);
    assert.deepEqual(agent.heard.filter((each) => each.at > agent.now - 9000), [], 'a picture that stood still is another thing');
  });

  test('a hidden page is silent', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    driver.wheel.hidden = true;
    agent.heard.length = 0;
    driver.run(1000);
    assert.deepEqual(agent.heard, []);
  });

  test('whoever has pressed stop is silent until it is answered: should the word be lost, silence stops as well', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    driver.wheel.hands.throttle = 1;
    agent.deaf = true;
    const stopped = driver.control.stop(agent.now);
    agent.heard.length = 0;
    driver.run(1000);
    assert.deepEqual(agent.heard, []);
    agent.now += 5000;
    driver.control.tick(agent.now);
    await assert.rejects(stopped, Refusal);
    agent.deaf = false;
    driver.run(100);
    assert.ok(agent.heard.length > 0);
  });

  test('a change does not wait for its turn, but does not flood', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    agent.heard.length = 0;
    driver.wheel.tick(agent.now + 12, true);
    assert.equal(agent.heard.length, 1);
    for (let i = 13; i < 21; i++) driver.wheel.tick(agent.now + i, true);
    assert.equal(agent.heard.length, 1);
  });

  test('answers tell the round trip, the age of the picture, and what hinders', async () => {
    const { agent, driver } = setup();
    await driver.arm();
    assert.deepEqual(driver.wheel.figures(agent.now), { rtt: 0, late: 1, age: 60, why: '', silent: false });
    agent.objection = 'late';
    driver.run(40);
    assert.equal(driver.wheel.figures(agent.now).why, 'late');
    agent.objection = '';
    driver.run(40);
    assert.equal(driver.wheel.figures(agent.now).why, '');
    agent.deaf = true;
    driver.run(700);
    assert.equal(driver.wheel.figures(agent.now).silent, true);
  });

  test('two viewers: queue, hand over, take over in the middle of a drive', async () => {
    const { agent, driver: anna } = setup('operate');
    const ben = new Driver(agent, agent.viewer('ben', 'operate', 'admin'));
    await anna.arm();
    assert.equal(await ben.control.lease('drive', 'request', agent.now), 'waiting');
    assert.deepEqual(anna.control.group('drive')?.queue.map((each) => each.viewer), ['ben']);
    await anna.control.lease('drive', 'hand', agent.now, 'ben');
    assert.equal(anna.wheel.holds, false);
    assert.equal(ben.state, 'disarmed');
    await ben.control.lease('drive', 'release', agent.now);
    await anna.arm();
    anna.wheel.hands.throttle = 1;
    anna.run(100);
    await ben.control.lease('drive', 'take', agent.now);
    agent.moved.length = 0;
    anna.run(200);
    assert.equal(agent.moved.length, 0);
    await anna.control.stop(agent.now);
    assert.equal(ben.state, 'stopped');
    await ben.control.reset(agent.now);
    assert.equal(ben.state, 'disarmed');
  });

  test('in any order of events, nothing moves that is not armed and every value is in range', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const random = seeded(seed);
      const { agent, driver } = setup('operate', 'admin');
      const { control, wheel } = driver;
      for (let step = 0; step < 80; step++) {
        const pick = Math.floor(random() * 11);
        const quiet = (/** @type {Promise<any>} */ promise) => void promise.catch(() => {});
        if (pick < 3) driver.run(20 + random() * 400);
        else if (pick === 3) for (const role of /** @type {const} */ (['throttle', 'steer', 'pan', 'tilt'])) wheel.hands[role] = random() < 0.4 ? 0 : random() * 2 - 1;
        else if (pick === 4) Object.assign(wheel.hands, { throttle: 0, steer: 0, pan: 0, tilt: 0 });
        else if (pick === 5) quiet(control.lease('drive', random() < 0.7 ? 'request' : 'release', agent.now));
        else if (pick === 6) driver.frozen = random() < 0.3;
        else if (pick === 7) quiet(random() < 0.3 ? control.stop(agent.now) : control.reset(agent.now));
        else if (pick === 8) wheel.hidden = random() < 0.3;
        else if (pick === 9 && random() < 0.3) agent.cut(driver.viewer);
        else if (!driver.viewer.open) agent.greet(driver.viewer);
        for (const { values, lease } of agent.moved) {
          assert.ok(lease > 0);
          for (const axis of ROVER.axes) {
            const value = values.rover[axis.name];
            assert.ok(value === undefined || (value >= axis.minimum && value <= axis.maximum), `${seed}: ${axis.name} ${value}`);
          }
        }
        agent.moved.length = 0;
        // Whatever is sent is sent under the lease that is held, and by a picture that moves.
        for (const each of agent.heard.splice(0)) if (each.t === 'set') assert.ok(each.at - (wheel.shown?.at ?? -Infinity) <= FROZEN_MS + 500);
      }
    }
  });
});

test('a share of an axis follows its longer side too', () => {
  const axis = /** @type {any} */ ({ minimum: -30, maximum: 45, neutral: 0 });
  assert.deepEqual([along(axis, 1), along(axis, -1), along(axis, 0), along(axis, -0.5)], [45, -30, 0, -15]);
});
