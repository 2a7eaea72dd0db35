// @ts-check
/**
 * Who is at fault when a picture is bad: decisions only. The first row that holds:
 *
 * | What is known                                                  | at fault | hard |
 * |----------------------------------------------------------------|----------|------|
 * | the browser has no network                                     | you      | yes  |
 * | the browser keeps the page from the local network              | you      | yes  |
 * | only the broker leads to the agent, and does not answer        | broker   | yes  |
 * | the broker says that the agent has gone                        | board    | yes  |
 * | an offer gets no answer                                        | board    | yes  |
 * | the camera is off, failed or is tried again                    | camera   | yes  |
 * | the agent answers on its channel, and no picture comes         | board    | yes  |
 * | an answer comes, no connection                                 | network  | yes  |
 * | the connection is gone                                         | network  | yes  |
 * | live, and the agent says what keeps the picture below its best | as it says | no |
 * | live, freezes or few pictures, with loss or a long round trip  | network  | no   |
 * | live, few pictures are shown of those that came                | you      | no   |
 * | live, few pictures come, and something slows the board down    | board    | no   |
 * | live, few pictures come                                        | camera   | no   |
 * | live, something ails the board                                 | board    | no, and mild |
 *
 * @typedef {'camera' | 'board' | 'broker' | 'network' | 'you'} Part
 * @typedef {object} Fault
 * @property {Part} at
 * @property {string} text one sentence for a person
 * @property {boolean} hard there is no live picture
 * @property {boolean} [mild] not worth to be said aloud
 * @property {boolean} [partly] other cameras are not concerned
 * @property {boolean} broker whether a broker is part of the way
 *
 * @typedef {import('./stats.js').Reading} Reading
 * @typedef {object} Facts what `Link.facts` gives, and what is known around it
 * @property {import('./types.js').CameraView} view
 * @property {import('./types.js').Flow | null} flow
 * @property {boolean} answers
 * @property {'' | 'answer' | 'connect'} stuck
 * @property {'' | 'up' | 'down'} broker
 * @property {boolean | null} up
 * @property {boolean} online
 * @property {string} lna
 * @property {string} board
 * @property {import('./types.js').CameraState | undefined} camera
 * @property {Reading | null} before
 * @property {Reading | null} after
 */
import { figures } from './stats.js';

const LOSS_PERCENT = 4;
const SLOW_RTT_MS = 500;

/** Of what the agent says of its board: what makes pictures few. A full disk, say, does not. */
const SLOWS = /\b(power|hot|slowed|memory)\b/;

const GONE = 'The board has left the broker: it is switched off, or its own network is down.';
const SILENT = 'The board does not answer: it is switched off, or the way to it is interrupted.';

/** What the agent calls a limit, and where in the chain that is. @type {Record<string, [Part, string]>} */
const LIMITS = {
  network: ['network', 'Your connection carries less than the camera sends.'],
  uplink: ['network', 'The internet connection of the camera is shared with other viewers.'],
  camera: ['camera', 'The camera cannot send less than your connection carries.'],
  board: ['board', 'The board is too slow to encode every picture.'],
};

/** The same of several cameras. @type {Record<string, string>} */
const MANY = {
  'The camera cannot send less than your connection carries.': 'The cameras cannot send less than your connection carries.',
  'The board works, but the camera gives no picture.': 'The board works, but the cameras give no picture.',
  'The camera delivers fewer pictures than it should.': 'The cameras deliver fewer pictures than they should.',
};

/**
 * @param {Facts} facts
 * @returns {Fault | null}
 */
export function faultOf(facts) {
  const { view, flow, up, stuck } = facts;
  const broker = facts.broker !== '';
  /** @param {Part} at @param {string} text @returns {Fault} */
  const hard = (at, text) => ({ at, text, hard: true, broker });
  /** @param {Part} at @param {string} text @returns {Fault} */
  const soft = (at, text) => ({ at, text, hard: false, broker });
  const gone = up === false && facts.broker === 'up';
  switch (view.phase) {
    case 'connecting':
    case 'reconnecting':
    case 'unreachable':
      if (!facts.online) return hard('you', 'This device has no network. The picture returns with it.');
      if (facts.lna === 'denied') return hard('you', 'The browser keeps this page from your network: allow it in the site settings.');
      if (view.phase === 'unreachable' && view.text === 'broker') return hard('broker', 'The broker does not answer, so the board cannot be called.');
      if (gone) return hard('board', GONE);
      if (view.phase === 'unreachable') return hard('board', SILENT);
      if (stuck === 'connect') return hard('network', 'The board answers, but no video gets through: a firewall or router bars the way.');
      if (stuck === 'answer') return hard('board', SILENT);
      if (view.phase === 'connecting') return null;
      if (facts.answers) return hard('board', 'The board answers, but sends no picture at present.');
      return hard('network', 'The connection to the board was interrupted; it is being made anew.');
    case 'off':
      return hard('camera', 'The board works, but the camera gives no picture.');
    case 'live': {
      const slowed = SLOWS.test(facts.board) && facts.board;
      const limit = LIMITS[flow?.limit ?? ''];
      if (limit) return soft(limit[0], (limit[0] === 'board' && slowed) || flow?.text || limit[1]);
      const measured = judged(facts);
      if (slowed && measured?.[0] === 'camera') return soft('board', slowed);
      if (measured) return soft(...measured);
      return facts.board ? { ...soft('board', facts.board), mild: true } : null;
    }
    default:
      return null;
  }
}

/**
 * What the browser's own figures of the last seconds say.
 * @param {Facts} facts
 * @returns {[Part, string] | null}
 */
function judged({ before, after, flow, camera }) {
  if (!before || !after || after.at <= before.at || after.frames < before.frames || after.bytes < before.bytes) return null;
  const seen = figures(before, after);
  const best = !flow?.layer || flow.layer === (camera?.layers?.[0]?.name ?? flow.layer);
  const expected = best && flow?.limit !== 'wish' ? (camera?.fps ?? 0) : 0;
  const few = expected > 0 && seen.fps < expected * 0.6;
  const froze = after.freezes > before.freezes;
  if (!few && !froze) return null;
  if (seen.lossPercent >= LOSS_PERCENT) return ['network', 'Parts of the picture get lost on the way to you.'];
  if ((seen.rttMs ?? 0) >= SLOW_RTT_MS) return ['network', 'Your connection is slow at present.'];
  if (!few) return null;
  const dropped = after.dropped - before.dropped;
  if (dropped > (after.frames - before.frames) * 0.3) return ['you', 'This device is too slow to show every picture.'];
  return ['camera', 'The camera delivers fewer pictures than it should.'];
}

/** What is shown of the faults of each camera: not the flicker of a second. */
export class FaultWatch {
  /** @type {Map<string, {shown: Fault | null, next: string, since: number}>} */
  #cameras = new Map();

  /**
   * @param {string} camera
   * @param {Fault | null} fault as it is now
   * @param {number} now ms
   * @returns {Fault | null} what to show
   */
  judge(camera, fault, now) {
    const key = keyOf(fault);
    let entry = this.#cameras.get(camera);
    if (!entry) this.#cameras.set(camera, (entry = { shown: null, next: '', since: now }));
    if (key === keyOf(entry.shown)) {
      entry.next = key;
      // The same fault in other words.
      if (fault?.text !== entry.shown?.text) entry.shown = fault;
      return entry.shown;
    }
    if (entry.next !== key) Object.assign(entry, { next: key, since: now });
    if (now - entry.since >= (!fault || !fault.hard ? 2000 : 500)) entry.shown = fault;
    return entry.shown;
  }
}

/** @param {Fault | null} fault */
const keyOf = (fault) => (fault ? `${fault.at} ${fault.hard} ${fault.mild ?? ''}` : '');

/**
 * One fault for several cameras: the one that all share, or the worst with the camera's name.
 * @param {{title: string, fault: Fault | null}[]} cameras
 * @returns {Fault | null}
 */
export function together(cameras) {
  const bad = cameras.filter((each) => each.fault);
  const rank = (/** @type {Fault | null} */ fault) => (fault?.hard ? 2 : fault?.mild ? 0 : 1);
  bad.sort((a, b) => rank(b.fault) - rank(a.fault));
  const worst = bad[0]?.fault;
  if (!worst) return null;
  const same = bad.filter((each) => each.fault?.at === worst.at && each.fault.hard === worst.hard);
  const text = (same.length > 1 && MANY[worst.text]) || worst.text;
  if (same.length === cameras.length || (worst.at !== 'camera' && same.length > 1)) return text === worst.text ? worst : { ...worst, text };
  const titles = same.map((each) => each.title);
  const names = [titles.slice(0, -1).join(', '), ...titles.slice(-1)].filter(Boolean).join(' and ');
  return { ...worst, partly: true, text: `${names}: ${lower(text)}` };
}

/** A sentence that continues another: lower-case first letter unless it may be a name or an abbreviation. @param {string} text */
const lower = (text) => (/^(The|These|This|Your|Parts)\b/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text);

/**
 * The way of the picture, part by part. Of what lies behind a hard fault nothing is known.
 * @param {Fault} fault
 * @returns {{part: Part, state: 'ok' | 'bad' | 'unknown'}[]}
 */
export function chain({ at, hard, broker }) {
  /** @type {Part[]} */
  const parts = ['camera', 'board', ...(broker || at === 'broker' ? [/** @type {const} */ ('broker')] : []), 'network', 'you'];
  const bad = parts.indexOf(at);
  return parts.map((part, i) => ({ part, state: i === bad ? 'bad' : hard && i < bad ? 'unknown' : 'ok' }));
}
