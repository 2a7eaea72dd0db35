// @ts-check
/** Forms from schemas, readings as text and lines, and how driving is put into words. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { batteryOf, hindrance, insecure, linkOf, speedOf, standing } from '../../edgeagent/web/drive-words.js';
import { argsOf, fieldsOf, readingText, sparkline, toggleOf } from '../../edgeagent/web/fields.js';
import { AIR, FakeAgent, LAMP, ROVER } from './support/fake-agent.js';

describe('a command as a form', () => {
  const schema = {
    type: 'object',
    $defs: { Mode: { enum: ['slow', 'fast'], title: 'Mode', type: 'string' } },
    properties: {
      angle: { type: 'number', minimum: -90, maximum: 90, description: 'To the right' },
      count: { type: 'integer', minimum: 1, default: 2 },
      mode: { $ref: '#/$defs/Mode', default: 'fast' },
      on: { type: 'boolean', title: 'On' },
      name: { anyOf: [{ type: 'string', maxLength: 20 }, { type: 'null' }], default: null },
      full_speed: { type: 'number' },
    },
    required: ['angle', 'on', 'full_speed'],
  };

  test('each kind of argument has its field', () => {
    const fields = fieldsOf(schema);
    assert.deepEqual(fields.map((each) => [each.name, each.kind, each.value]), [
      ['angle', 'slider', 0],
      ['count', 'number', 2],
      ['mode', 'select', 'fast'],
      ['on', 'switch', false],
      ['name', 'text', null],
      ['full_speed', 'number', null],
    ]);
    assert.equal(fields[0].step, 1);
    assert.equal(fields[4].longest, 20);
    assert.equal(fields[5].title, 'Full speed');
    assert.deepEqual(fieldsOf({}), []);
    assert.equal(fieldsOf({ properties: { share: { type: 'number', minimum: 0, maximum: 1 } } })[0].step, 0.01);
  });

  test('what is filled in becomes arguments, or a sentence', () => {
    const fields = fieldsOf(schema);
    const fill = { angle: '-45', count: '3', mode: '0', on: true, name: '', full_speed: '0.5' };
    assert.deepEqual(argsOf(fields, fill), { args: { angle: -45, count: 3, mode: 'slow', on: true, full_speed: 0.5 } });
    assert.deepEqual(argsOf(fields, { ...fill, full_speed: '' }), { field: 'full_speed', problem: 'Full speed: fill this in.' });
    for (const [name, value, problem] of [['count', '1.5', 'whole numbers only'], ['count', '0', 'at least 1'], ['angle', '91', 'at most 90'], ['full_speed', 'x', 'no number']]) {
      const result = argsOf(fields, { ...fill, [name]: value });
      assert.ok('problem' in result && result.field === name && result.problem.includes(problem), `${name} ${value}`);
    }
  });

  test('a switch beside its reading is a toggle', () => {
    assert.equal(toggleOf(LAMP, LAMP.commands[0])?.reading.name, 'on');
    assert.equal(toggleOf(LAMP, LAMP.commands[1]), null);
    assert.equal(toggleOf({ ...LAMP, readings: [] }, LAMP.commands[0]), null);
    assert.equal(toggleOf(ROVER, ROVER.commands[0]), null);
  });
});

describe('readings', () => {
  const [temperature] = AIR.readings;

  test('as text', () => {
    assert.deepEqual(readingText(temperature, 21.44), { text: '21.4', unit: '°C', warn: false });
    assert.deepEqual(readingText(temperature, -3), { text: '−3.0', unit: '°C', warn: false });
    assert.equal(readingText(temperature, 30.1).warn, true);
    assert.equal(readingText({ ...temperature, warn_below: 5 }, 4).warn, true);
    assert.equal(readingText(temperature, null).text, '–');
    assert.equal(readingText(AIR.readings[3], 'good').text, 'good');
  });

  test('as a line within its box', () => {
    assert.equal(sparkline([], 0, 60_000, 100, 20), '');
    assert.equal(sparkline([{ at: 0, value: 1 }], 0, 60_000, 100, 20), '');
    const points = Array.from({ length: 61 }, (_, i) => ({ at: i * 1000, value: Math.sin(i / 5) }));
    const line = sparkline(points, 60_000, 60_000, 100, 20);
    const numbers = [...line.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map((match) => [Number(match[1]), Number(match[2])]);
    assert.equal(numbers.length, 61);
    for (const [x, y] of numbers) assert.ok(x >= 0 && x <= 100 && y >= 0 && y <= 20, `${x} ${y}`);
    assert.deepEqual(numbers[0][0], 0);
    assert.equal(sparkline([{ at: 0, value: 1 }, { at: 50_000, value: 2 }], 60_000, 60_000, 60, 10), 'M0.0 10.0H50.0V0.0H60', 'what is told seldom is a step');
    assert.equal(sparkline([{ at: 0, value: 5 }, { at: 1000, value: 5 }], 60_000, 60_000, 60, 10), 'M0.0 5.0L1.0 5.0H60', 'what does not change is in the middle');
  });
});

describe('in words', () => {
  const group = /** @type {any} */ ({ t: 'group', group: 'drive', title: '', holder: null, holder_name: '', lease: null, state: 'free', why: '', text: '', queue: [], expiry_ms: 300, max_age_ms: 1000 });
  const facts = { open: true, told: true, you: 'me', operates: true, admin: false, group, neutral: true, frozen: false, seen: true };
  /** @param {Partial<import('../../edgeagent/web/drive-words.js').Facts>} patch @param {object} [more] of the group */
  const say = (patch, more) => {
    const { tone, title, acts } = standing({ ...facts, ...patch, group: more === undefined ? group : { ...group, ...more } });
    return [tone, title, ...acts.map((each) => each.act)];
  };

  test('how things stand, and what can be done', () => {
    assert.deepEqual(say({ open: false }), ['wait', 'Connecting to the controls…']);
    assert.deepEqual(say({}), ['free', 'Ready to drive', 'request']);
    assert.deepEqual(say({ operates: false }), ['watch', 'Nobody drives', 'signin']);
    const mine = { holder: 'me', lease: 4, state: 'disarmed' };
    assert.deepEqual(say({ neutral: false }, mine), ['hold', 'Let go of the stick']);
    assert.deepEqual(say({ neutral: false, typing: true }, mine), ['hold', 'Let go of the keys']);
    assert.deepEqual(say({}, mine), ['hold', 'Getting ready…']);
    assert.deepEqual(say({}, { ...mine, state: 'armed' }), ['armed', 'You drive']);
    assert.deepEqual(say({ frozen: true }, { ...mine, state: 'armed' }), ['hold', 'The picture stands still']);
    assert.deepEqual(say({}, { ...mine, state: 'armed', queue: [{ viewer: 'b', name: 'Ben' }] }), ['armed', 'You drive', 'hand']);
    const annas = { holder: 'a', holder_name: 'Anna', state: 'armed' };
    assert.deepEqual(say({}, annas), ['watch', 'Anna drives', 'request']);
    assert.deepEqual(say({ admin: true }, annas), ['watch', 'Anna drives', 'request', 'take']);
    assert.deepEqual(say({}, { ...annas, queue: [{ viewer: 'me', name: '' }] }), ['watch', 'Anna drives', 'cancel']);
    assert.deepEqual(say({ operates: false }, annas), ['watch', 'Anna drives', 'signin']);
    assert.deepEqual(say({}, { ...mine, state: 'stopped', text: 'Ben pressed stop.' }), ['stopped', 'Stopped', 'reset']);
    assert.deepEqual(say({ operates: false }, { ...annas, state: 'stopped' }), ['stopped', 'Stopped', 'signin']);
    const stopped = (/** @type {object} */ more, /** @type {object} */ who = { operates: false }) => standing({ ...facts, ...who, group: { ...group, state: 'stopped', why: 'stop', ...more } }).hint;
    const text = 'anna has pressed the emergency stop; an operator must reset it.';
    assert.equal(stopped({ text }), 'Anna has pressed the emergency stop. Nothing moves until an operator releases it.');
    assert.equal(stopped({ text }, {}), 'Anna has pressed the emergency stop. Nothing moves until you release it.');
    const own = { text: 'You pressed stop. Nothing moves until you release it.', stopped_by: 'me' };
    assert.equal(stopped(own, {}), own.text);
    assert.equal(stopped({ ...own, stopped_by: 'b', text }, {}), 'Anna has pressed the emergency stop. Nothing moves until you release it.');
    assert.equal(stopped({}), 'Somebody pressed stop. Nothing moves until an operator releases it.');
    assert.deepEqual(say({}, { ...mine, state: 'fault', text: 'The left motor does not answer.' }), ['fault', 'It cannot move now', 'release']);
  });

  test('a page in the clear says what to write so that gamepads come', () => {
    const page = { origin: 'http://10.0.0.7:8080', host: '10.0.0.7:8080' };
    const code = (/** @type {string} */ src) => insecure(page, src).filter((part) => part.code).map((part) => part.text);
    assert.deepEqual(code('http://10.0.0.7:8080/'), ['http: {tls: true}', 'tls: true', 'https://10.0.0.7:8080/']);
    // From elsewhere it is not the agent that serves the page.
    for (const src of ['', 'http://10.0.0.7:80801/', 'https://10.0.0.7:8080/']) assert.deepEqual(code(src), []);
    assert.match(insecure(page, '')[0].text, /Open this page by https:/);
  });

  test('every reason has a sentence', () => {
    for (const why of ['lease', 'connection', 'silence', 'hidden', 'gamepad', 'picture', 'battery', 'device', 'keeper', 'stop', 'taken']) {
      const { hint } = standing({ ...facts, group: { ...group, why } });
      assert.match(hint, /^[A-Z].*\.$/, why);
    }
    assert.equal(standing({ ...facts, group: { ...group, why: 'stop', text: 'Ben pressed stop.' } }).hint, 'Ben pressed stop.');
    const mine = (/** @type {object} */ more) => standing({ ...facts, group: { ...group, holder: 'me', lease: 4, state: 'disarmed', ...more } }).hint;
    assert.equal(mine({ why: 'silence', text: 'Nothing has come from Anna for 0.3 s.' }), 'Nothing was heard from this page for a moment.', 'she reads it herself');
    assert.equal(mine({ why: 'person', text: 'The operator has halted.' }), '');
    assert.equal(mine({ why: 'taken', text: 'Anna has taken over from Ben.' }), 'Anna has taken over from Ben.');
    assert.equal(mine({ why: 'picture', queue: [{ viewer: 'b', name: 'Ben' }] }), 'The picture stood still. Ben would like to drive.');
    assert.equal(hindrance({ why: '', silent: false, late: 1 }), '');
    assert.equal(hindrance({ why: 'disarmed', silent: false, late: 1 }), '');
    assert.match(hindrance({ why: 'late', silent: false, late: 400 }), /late commands/);
    assert.match(hindrance({ why: '', silent: true, late: null }), /does not answer/);
  });

  test('the link in a word', () => {
    const link = (/** @type {object} */ more) => Object.values(linkOf({ rtt: 20, loss: 0, silent: false, open: true, ...more }));
    assert.deepEqual(link({}), ['Good', false]);
    assert.deepEqual(link({ loss: null }), ['Good', false]);
    assert.deepEqual(link({ rtt: null }), ['–', false]);
    assert.deepEqual(link({ rtt: 300 }), ['Slow', true]);
    assert.deepEqual(link({ loss: 4 }), ['Weak', true]);
    for (const gone of [{ silent: true }, { open: false }]) assert.deepEqual(link(gone), ['None', true]);
  });

  test('battery and speed are found among the readings', () => {
    const { control } = new FakeAgent().viewer('me');
    const value = (/** @type {string} */ device, /** @type {string} */ reading) => control.value(device, reading);
    assert.deepEqual(batteryOf(control.store.state.devices, value), { text: '76 %', warn: false, share: 0.76 });
    assert.deepEqual(speedOf([ROVER], value), { text: '0.00', unit: 'm/s', share: 0 });
    assert.equal(batteryOf([AIR], value), null);
    assert.equal(speedOf([LAMP], value), null);
  });

  test('what a device told before it failed, or before the connection was made anew, is not shown as if it were so now', () => {
    const agent = new FakeAgent();
    const { control } = agent.viewer('me');
    const battery = () => batteryOf(control.store.state.devices, (device, reading) => control.value(device, reading))?.text;
    const rover = (/** @type {string} */ phase) => control.message(JSON.stringify({ t: 'devices', you: 'me', name: '', rights: ['watch'], devices: [{ ...ROVER, phase }] }), 10);
    const read = (/** @type {number} */ charge) => control.message(JSON.stringify({ t: 'readings', at: 1, values: { rover: { battery: charge } } }), 20);
    assert.equal(battery(), '76 %');
    rover('retrying');
    assert.equal(battery(), undefined);
    read(75);
    assert.equal(battery(), undefined, 'it was late');
    rover('starting');
    read(40);
    assert.equal(battery(), undefined, 'it is not said to work yet');
    rover('live');
    assert.equal(battery(), '40 %', 'channels do not wait for each other');
    rover('retrying');
    read(75);
    rover('starting');
    rover('live');
    assert.equal(battery(), undefined);
    read(40);
    assert.ok(control.trace('rover', 'battery').length >= 2, 'the last minute is kept');
    control.closed();
    control.opened();
    assert.equal(battery(), undefined);
    read(39);
    rover('live');
    assert.equal(battery(), '39 %', 'channels do not wait for each other');
  });
});
