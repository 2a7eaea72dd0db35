// @ts-check
/**
 * State in words: one short sentence that a homeowner understands, and a second where it helps.
 *
 * @typedef {import('./types.js').CameraView} CameraView
 * @typedef {object} Words
 * @property {'live' | 'wait' | 'off' | 'lost' | 'ask'} kind `wait` shows a spinner, `off` and `lost` do not claim to be live
 * @property {string} text '' where nothing needs to be said
 * @property {string} hint
 * @property {string} age e.g. `last picture 12 s ago`, '' where there is none; changes every second, so it is not announced
 */

/**
 * @param {CameraView} view
 * @param {{online?: boolean, lna?: string}} [around] `online`: the browser's own view of its network; `lna`: state of the
 *   permission to reach the local network, where the browser has one
 * @returns {Words}
 */
export function words(view, { online = true, lna = '' } = {}) {
  const age = view.age === null ? '' : `last picture ${duration(view.age)} ago`;
  /** @param {Words['kind']} kind @param {string} text @param {string} [hint] @returns {Words} */
  const say = (kind, text, hint = '') => ({ kind, text, hint, age: kind === 'live' ? '' : age });
  switch (view.phase) {
    case 'live':
    case 'resuming':
      return say('live', '');
    case 'connecting':
      return online ? say('wait', 'Connecting…', view.text) : offline(say);
    case 'starting':
      return say('wait', 'Camera is starting…', /start/i.test(view.text) ? '' : view.text);
    case 'reconnecting':
      return online ? say('wait', 'Reconnecting…', view.text) : offline(say);
    case 'off':
      return say('off', 'Camera is off', view.text.replace(/`([^`]*)`/g, '“$1”'));
    case 'refused':
      return say('lost', view.text || 'The camera refused to connect');
    case 'signin':
      return say('ask', 'Sign in to watch');
    case 'unreachable':
      if (!online) return offline(say);
      if (lna === 'denied') return say('lost', 'The browser keeps this page from your network', 'Allow “Local network” in the site settings, then reload.');
      if (view.text === 'broker') return say('lost', 'The broker is not reachable', 'Trying again…');
      return say('lost', 'The agent is not reachable', 'Trying again…');
  }
}

/** @param {(kind: Words['kind'], text: string, hint?: string) => Words} say */
const offline = (say) => say('lost', 'This device is offline', 'The picture returns with the network.');

/**
 * A time span in the largest sensible unit: `12 s`, `3 min`, `2 h`, `4 days`.
 * @param {number} ms
 */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

/**
 * What the header says about all cameras together.
 * @param {{kind: Words['kind'], text: string}[]} all
 */
export function summary(all) {
  if (!all.length) return '';
  const live = all.filter((each) => each.kind === 'live').length;
  const texts = new Set(all.map((each) => each.text));
  if (live === all.length) return live === 1 ? 'Live' : `${live} cameras, all live`;
  if (live === 0 && texts.size === 1) return all[0].text;
  return `${live} of ${all.length} cameras live`;
}

/**
 * A title for a camera or device that has only a name: `front-door` becomes `Front door`.
 * @param {string} name
 * @param {string} [title]
 */
export function titleOf(name, title = '') {
  if (title) return title;
  const text = name.replaceAll('-', ' ').trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}
