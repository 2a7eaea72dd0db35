// @ts-check
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, test } from 'node:test';
import { MqttDoor } from '../../edgeagent/web/mqtt.js';
import { sdpFragment, WhepDoor } from '../../edgeagent/web/whep.js';

const SDP = 'v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:abcd\r\na=ice-pwd:secretsecretsecretsecret\r\na=mid:0\r\n';
const OFFER = /** @type {const} */ ({ v: 1, t: 'offer', sid: 'abcdefgh', n: 1, sdp: SDP, cameras: { 0: 'gate', 1: 'yard', 2: 'shed' } });
const settle = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

function listener() {
  /** @type {any[]} */
  const events = [];
  /** @type {string[]} */
  const refused = [];
  return { events, refused, event: (/** @type {any} */ event) => void events.push(event), unauthorized: (/** @type {string} */ text) => void refused.push(text) };
}

describe('WHEP', () => {
  /** @param {(url: string, init: any) => any} answer @param {string} [token] */
  function whep(answer, token) {
    const heard = listener();
    /** @type {any[]} */
    const asked = [];
    const fetcher = /** @type {any} */ (
      async (/** @type {string} */ url, /** @type {any} */ init) => {
        asked.push({ url, ...init });
        return answer(url, init);
      }
    );
    const door = new WhepDoor({ base: 'http://porch:8080/', token, fetch: fetcher }, heard);
    door.open();
    return { door, asked, ...heard };
  }
  /** @param {string} [sdp] */
  const created = (sdp = 'v=0 answer') => new Response(sdp, { status: 201, headers: { Location: '/whep/77', ETag: '"x"' } });

  test('the offer names all cameras in the order of the m-lines, and is answered', async () => {
    const { door, asked, events } = whep(() => created());
    door.offer(5, OFFER);
    await settle();
    assert.equal(asked[0].url, 'http://porch:8080/gate/whep?also=yard%2Cshed');
    assert.equal(asked[0].method, 'POST');
    assert.deepEqual(asked[0].headers, { 'Content-Type': 'application/sdp' });
    assert.deepEqual(events, [
      { type: 'door', door: 'whep', ready: true },
      { type: 'message', peer: 5, message: { v: 1, t: 'answer', sid: 'abcdefgh', n: 1, sdp: 'v=0 answer', cameras: OFFER.cameras } },
    ]);
  });

  test('candidates are held back until there is a resource, then patched with its ETag; the end is told by DELETE', async () => {
    const { door, asked } = whep((_url, init) => (init.method === 'POST' ? created() : new Response(null, { status: 204 })), 'tok');
    door.offer(5, OFFER);
    door.send(5, { v: 1, t: 'ice', sid: 'abcdefgh', candidates: [{ candidate: 'candidate:1 1 udp 1 h.local 9 typ host' }] });
    await settle();
    door.send(5, { v: 1, t: 'ice', sid: 'abcdefgh', candidates: [], end: true });
    door.send(5, { v: 1, t: 'bye', sid: 'abcdefgh' });
    door.send(5, { v: 1, t: 'ice', sid: 'abcdefgh', candidates: [] });
    await settle();
    assert.deepEqual(asked.map((each) => [each.method, each.url]), [
      ['POST', 'http://porch:8080/gate/whep?also=yard%2Cshed'],
      ['PATCH', 'http://porch:8080/whep/77'],
      ['PATCH', 'http://porch:8080/whep/77'],
      ['DELETE', 'http://porch:8080/whep/77'],
    ]);
    assert.deepEqual(asked[1].headers, { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '"x"', Authorization: 'Bearer tok' });
    assert.match(asked[1].body, /a=candidate:1 1 udp 1 h\.local 9 typ host\r\n/);
    assert.match(asked[2].body, /a=end-of-candidates\r\n$/);
    assert.equal(asked[3].keepalive, true);
  });

  test('a session that ended while it was asked for is taken back', async () => {
    const { door, asked, events } = whep((_url, init) => (init.method === 'POST' ? created() : new Response(null, { status: 200 })));
    door.offer(5, OFFER);
    door.send(5, { v: 1, t: 'bye', sid: 'abcdefgh' });
    await settle();
    assert.deepEqual(asked.map((each) => each.method), ['POST', 'DELETE']);
    assert.equal(events.length, 1, 'no answer is told');
  });

  test('refusals keep the words of the agent', async () => {
    for (const [status, body, headers, code, message] of /** @type {any[]} */ ([
      [406, '{"code":406,"message":"Offer H.264."}', {}, 406, 'Offer H.264.'],
      [503, 'No place left.', { 'Retry-After': '7' }, 503, 'No place left.'],
      [400, '<html>Bad</html>', {}, 400, 'The agent answered 400'],
    ])) {
      const { door, events } = whep(() => new Response(body, { status, headers }));
      door.offer(5, OFFER);
      await settle();
      assert.equal(events[1].message.t, 'error');
      assert.deepEqual([events[1].message.code, events[1].message.message, events[1].message.retry_s], [code, message, headers['Retry-After'] ? 7 : undefined]);
    }
  });

  test('401 asks the person; nobody there, or a gateway before nobody, is unreachable', async () => {
    const unknown = whep(() => new Response('{"message":"Sign in."}', { status: 401 }));
    unknown.door.offer(5, OFFER);
    await settle();
    assert.deepEqual(unknown.refused, ['Sign in.']);
    for (const answer of [() => Promise.reject(new TypeError('refused')), () => new Response('', { status: 502 })]) {
      const away = whep(answer);
      away.door.offer(5, OFFER);
      await settle();
      assert.deepEqual(away.events[1], { type: 'unreachable', peer: 5 });
    }
  });

  test('the fragment carries the credentials of its offer', () => {
    assert.equal(sdpFragment(SDP, [], false), 'a=ice-ufrag:abcd\r\na=ice-pwd:secretsecretsecretsecret\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n');
  });
});

describe('MQTT', () => {
  class Client extends EventEmitter {
    /** @type {any[]} */
    published = [];
    /** @type {any} */
    subscribed = null;
    ended = 0;
    /** @param {string} topic @param {string} text */
    publish(topic, text) {
      this.published.push([topic, JSON.parse(text)]);
    }
    /** @param {any} topics */
    subscribe(topics) {
      this.subscribed = topics;
    }
    end() {
      this.ended += 1;
    }
  }

  function mqtt() {
    const heard = listener();
    /** @type {any[]} */
    const clients = [];
    /** @type {any[]} */
    const options = [];
    const library = {
      connect(/** @type {string} */ url, /** @type {any} */ with_) {
        options.push({ url, ...with_ });
        clients.push(new Client());
        return clients.at(-1);
      },
    };
    const door = new MqttDoor({ url: 'wss://b/mqtt', device: 'porch', viewer: 'web-1', username: 'u', password: 'p', load: async () => library, random: () => 1 }, heard);
    return { door, clients, options, ...heard };
  }
  const encode = (/** @type {any} */ value) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

  test('subscribes before it says that it is ready, within the portable profile', async () => {
    const { door, clients, options, events } = mqtt();
    door.open();
    await settle();
    assert.deepEqual([options[0].url, options[0].protocolVersion, options[0].clean, options[0].username], ['wss://b/mqtt', 4, true, 'u']);
    assert.deepEqual(events, [{ type: 'door', door: 'mqtt', ready: false }]);
    clients[0].emit('connect');
    assert.deepEqual(Object.keys(clients[0].subscribed), ['ea/1/d/porch/hello', 'ea/1/d/porch/up', 'ea/1/v/web-1/in/+']);
    assert.deepEqual(events[1], { type: 'door', door: 'mqtt', ready: true });
    door.offer(3, OFFER);
    assert.deepEqual(clients[0].published, [['ea/1/d/porch/in/web-1', OFFER]]);
  });

  test('what comes in is told; nonsense, giants and strangers are not', async () => {
    const { door, clients, events } = mqtt();
    door.open();
    await settle();
    clients[0].emit('connect');
    events.length = 0;
    const inbox = 'ea/1/v/web-1/in/porch';
    clients[0].emit('message', 'ea/1/d/porch/up', encode({ up: 1, epoch: 'e1', at: 1 }));
    clients[0].emit('message', 'ea/1/d/porch/hello', encode({ v: 1, t: 'hello', epoch: 'e1', cameras: [] }));
    clients[0].emit('message', inbox, encode({ v: 1, t: 'answer', sid: 'abcdefgh' }));
    for (const bad of ['{', '[]', '5', 'null', '', '{"v":1}', `{"t":"${'x'.repeat(70_000)}"}`]) clients[0].emit('message', inbox, encode(bad));
    clients[0].emit('message', 'ea/1/v/web-1/in/other', encode({ v: 1, t: 'answer', sid: 'abcdefgh' }));
    clients[0].emit('message', 'ea/1/d/porch/hello', encode({ v: 2, t: 'hello' }));
    assert.deepEqual(events.map((each) => each.message?.t ?? [each.type, each.up, each.epoch]), [['presence', true, 'e1'], 'hello', 'answer']);
  });

  test('what was offered while the agent did not listen is offered again once it does, as long as it is wanted and not answered', async () => {
    const { door, clients } = mqtt();
    door.open();
    await settle();
    clients[0].emit('connect');
    const up = (/** @type {boolean} */ retain) => clients[0].emit('message', 'ea/1/d/porch/up', encode({ up: 1, epoch: 'e1', at: 1 }), { retain });
    const offers = () => clients[0].published.filter((/** @type {any} */ [, message]) => message.t === 'offer').length;
    up(false);
    assert.equal(offers(), 0);
    door.offer(3, OFFER);
    up(true);
    assert.equal(offers(), 1, 'the broker only had kept it');
    up(false);
    assert.equal(offers(), 2);
    clients[0].emit('message', 'ea/1/v/web-1/in/porch', encode({ v: 1, t: 'answer', sid: OFFER.sid, n: 1, sdp: 'v=0' }));
    up(false);
    assert.equal(offers(), 2, 'answered');
    door.offer(4, { ...OFFER, sid: 'hgfedcba' });
    door.send(4, { v: 1, t: 'bye', sid: 'hgfedcba', reason: 'not needed' });
    up(false);
    assert.equal(offers(), 3, 'given up');
  });

  test('a broker that goes is tried again with a growing wait, for as long as the door is open', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { door, clients, events } = mqtt();
    door.open();
    await settle();
    clients[0].emit('connect');
    clients[0].emit('close');
    assert.deepEqual(events.slice(-3), [
      { type: 'door', door: 'mqtt', ready: false },
      { type: 'presence', up: null, epoch: null },
      { type: 'door', door: 'mqtt', ready: false, down: true },
    ]);
    assert.equal(clients[0].ended, 1);
    for (const wait of [250, 500, 1000, 1500, 1500]) {
      const before = clients.length;
      t.mock.timers.tick(wait - 1);
      await settle();
      assert.equal(clients.length, before, `not before ${wait} ms`);
      t.mock.timers.tick(1);
      await settle();
      assert.equal(clients.length, before + 1);
      clients.at(-1).emit('error', new Error('refused'));
      clients.at(-1).emit('close');
    }
    door.close();
    t.mock.timers.tick(60_000);
    await settle();
    assert.equal(clients.length, 6);
  });

  test('an offer at a shut door is unreachable; an old client says nothing more', async () => {
    const { door, clients, events } = mqtt();
    door.open();
    await settle();
    door.offer(3, OFFER);
    assert.deepEqual(events.at(-1), { type: 'unreachable', peer: 3 });
    clients[0].emit('connect');
    door.wake();
    await settle();
    assert.equal(clients.length, 2, 'a socket that slept is replaced');
    events.length = 0;
    clients[0].emit('message', 'ea/1/d/porch/up', encode({ up: 0, epoch: 'e1' }));
    clients[0].emit('close');
    assert.deepEqual(events, []);
  });

  test('a refused name or password asks the person', async () => {
    const { door, clients, refused } = mqtt();
    door.open();
    await settle();
    clients[0].emit('error', Object.assign(new Error('Not authorized'), { code: 5 }));
    assert.equal(refused.length, 1);
    clients[0].emit('error', Object.assign(new Error('unavailable'), { code: 3 }));
    assert.equal(refused.length, 1);
  });
});
