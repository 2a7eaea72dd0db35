// @ts-check
/** The channels of control, with a peer and a document that only remember. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Desk } from '../../edgeagent/web/desk.js';

/** A channel that is open as soon as it is told so. */
class Channel {
  readyState = 'connecting';
  bufferedAmount = 0;
  /** @type {any[]} */
  sent = [];
  onopen = () => {};
  onclose = () => {};
  /** @param {{data: string}} _event */
  onmessage(_event) {}
  close() {}

  open() {
    this.readyState = 'open';
    this.onopen();
  }

  /** @param {string} text */
  send(text) {
    this.sent.push(JSON.parse(text));
  }
}

class Peer {
  /** @type {Record<string, Channel>} */
  channels = {};
  pc = { createDataChannel: (/** @type {string} */ label) => (this.channels[label] = new Channel()) };
}

test('nobody looks at the page: it asks for no readings, unless it drives, and at once for all of them when somebody does', (t) => {
  /** @type {() => void} */
  let pass = () => {};
  const document = Object.assign(new EventTarget(), { hidden: false });
  t.mock.method(globalThis, 'setInterval', (/** @type {() => void} */ each) => (pass = each));
  Object.assign(globalThis, { document });
  const agent = { driving: false, settings: { src: '', token: '' } };
  const desk = new Desk(/** @type {any} */ (agent));
  const see = (/** @type {boolean} */ hidden) => {
    document.hidden = hidden;
    document.dispatchEvent(new Event('visibilitychange'));
  };
  const join = () => {
    const peer = new Peer();
    desk.join(/** @type {any} */ (peer));
    const events = /** @type {Channel} */ (peer.channels.events);
    return { events, asked: () => events.sent.splice(0).map(({ t, on }) => [t, on]) };
  };

  const first = join();
  see(true);
  see(false);
  assert.deepEqual(first.asked(), [], 'there is no connection yet');
  first.events.open();
  pass();
  assert.deepEqual(first.asked(), [], 'they come without being asked for');
  see(true);
  assert.deepEqual(first.asked(), [['listen', false]]);
  pass();
  assert.deepEqual(first.asked(), []);
  see(false);
  assert.deepEqual(first.asked(), [['listen', true]]);

  agent.driving = true;
  see(true);
  assert.deepEqual(first.asked(), []);
  agent.driving = false;
  pass();
  assert.deepEqual(first.asked(), [['listen', false]], 'the lease is gone');

  // The next connection begins anew, also behind another tab.
  const next = join();
  next.events.open();
  pass();
  assert.deepEqual(next.asked(), [['listen', false]]);
  see(false);
  assert.deepEqual(next.asked(), [['listen', true]]);
});
