// @ts-check
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { entersLocalNetwork } from '../../edgeagent/web/local-network.js';
import { remember, remembered } from '../../edgeagent/web/memory.js';
import { reachableBroker } from '../../edgeagent/web/mqtt.js';
import { brokerUrl, fromFragment, httpUrl, NAME, noSettings, toFragment } from '../../edgeagent/web/settings.js';

describe('settings', () => {
  test('an empty fragment names no agent', () => {
    assert.deepEqual(fromFragment(''), { settings: null, camera: '', drive: false, paused: false, probe: false, door: '' });
    assert.equal(fromFragment('#camera=gate').camera, 'gate');
    assert.equal(fromFragment('#camera=../x').camera, '');
    assert.equal(fromFragment('#device=porch').settings, null, 'a device without a broker');
    assert.equal(fromFragment('#broker=wss://b/&device=Not a name').settings, null);
    assert.equal(fromFragment('#paused&probe&door=mqtt').door, 'mqtt');
    assert.equal(fromFragment('#door=window').door, '');
  });

  test('a device behind a broker, an agent by address', () => {
    assert.deepEqual(fromFragment('#device=porch&broker=wss://b.example/mqtt&user=u&password=p').settings, {
      ...noSettings(),
      device: 'porch',
      broker: 'wss://b.example/mqtt',
      username: 'u',
      password: 'p',
    });
    assert.equal(fromFragment('#agent=https://porch.local').settings?.src, 'https://porch.local/');
  });

  test('secrets leave the fragment, the rest stays', () => {
    assert.equal(toFragment('#device=porch&broker=wss://b/mqtt&password=p&token=t', 'gate'), '#device=porch&broker=wss://b/mqtt&camera=gate');
    assert.equal(toFragment('#camera=gate', ''), '');
    assert.equal(toFragment('#camera=gate&paused', ''), '#paused');
  });

  test('one drives by a camera', () => {
    assert.deepEqual(fromFragment('#drive/gate&probe'), { settings: null, camera: 'gate', drive: true, paused: false, probe: true, door: '' });
    assert.equal(fromFragment('#drive/../x').drive, false);
    assert.equal(fromFragment('#camera=gate').drive, false);
    const there = toFragment('#broker=wss://b/mqtt&device=porch&camera=gate&token=t', 'gate', true);
    assert.equal(there, '#drive/gate&broker=wss://b/mqtt&device=porch');
    assert.equal(fromFragment(there).settings?.device, 'porch');
    assert.equal(toFragment(there, 'gate'), '#camera=gate&broker=wss://b/mqtt&device=porch');
    assert.equal(toFragment('#drive/gate', ''), '');
  });

  test('addresses as people type them', () => {
    assert.deepEqual(['porch.local', 'http://192.168.1.5:8080/x?y#z', 'ftp://x', '', 'http://'].map(httpUrl), ['https://porch.local/', 'http://192.168.1.5:8080/x/', '', '', '']);
    assert.deepEqual(['b.example', 'ws://b:9001', 'mqtt://b', 'javascript:alert(1)'].map(brokerUrl), ['wss://b.example/', 'ws://b:9001/', '', '']);
  });

  test("the agent's loopback broker is on the agent's host", () => {
    assert.equal(reachableBroker('ws://127.0.0.1:9001/', '192.168.1.5'), 'ws://192.168.1.5:9001/');
    assert.equal(reachableBroker('ws://localhost:9001/', 'porch.local'), 'ws://porch.local:9001/');
    assert.equal(reachableBroker('ws://127.0.0.1:9001/', '127.0.0.1'), 'ws://127.0.0.1:9001/');
    assert.equal(reachableBroker('wss://b.example/mqtt', '192.168.1.5'), 'wss://b.example/mqtt');
  });

  test('what is remembered comes back; damage, nonsense and refusal do not hurt', () => {
    /** @type {Map<string, string>} */
    const map = new Map();
    const storage = /** @type {any} */ ({ getItem: (/** @type {string} */ key) => map.get(key) ?? null, setItem: (/** @type {string} */ key, /** @type {string} */ value) => map.set(key, value), removeItem: (/** @type {string} */ key) => map.delete(key) });
    assert.equal(remembered(storage), null);
    const settings = { ...noSettings(), device: 'porch', broker: 'wss://b/' };
    remember(storage, settings);
    assert.deepEqual(remembered(storage), settings);
    for (const text of ['{', '1', '{"device":5}', '{"device":"Nope Nope","broker":"x"}']) {
      map.set([...map.keys()][0], text);
      assert.equal(remembered(storage), null, text);
    }
    remember(storage, null);
    assert.equal(map.size, 0);
    const refuses = () => {
      throw new Error('private');
    };
    assert.equal(remembered(/** @type {any} */ ({ getItem: refuses })), null);
    remember(/** @type {any} */ ({ setItem: refuses, removeItem: refuses }), settings);
  });

  test('names on the wire', () => {
    assert.deepEqual(['a', 'front-door', '7', '-a', 'a-', 'A', '', 'a'.repeat(64), 'a'.repeat(65)].map((name) => NAME.test(name)), [true, true, true, false, false, false, false, true, false]);
  });
});

test('only a page from elsewhere needs permission to enter the local network', () => {
  const inside = ['192.168.1.5', '10.1.2.3', '172.16.0.1', '172.31.9.9', '100.64.0.1', '169.254.1.1', '127.0.0.1', 'localhost', 'porch', 'porch.local', 'pi.fritz.box', 'pi.home.arpa', '[::1]', '[fd12::1]', '[fe80::1]'];
  const outside = ['view.example', '8.8.8.8', '172.32.0.1', '100.128.0.1', '11.0.0.1', '[2001:db8::1]', 'local.example', '1.2.3.4'];
  for (const target of inside) {
    for (const page of outside) assert.equal(entersLocalNetwork(page, target), true, `${page} ${target}`);
    for (const page of inside) assert.equal(entersLocalNetwork(page, target), false, `${page} ${target}`);
  }
  for (const target of outside) assert.equal(entersLocalNetwork('view.example', target), false, target);
});
