// @ts-check
/**
 * The drive page in words: how things stand, what the person may do about it, and the figures over the picture. No browser object is
 * touched.
 *
 * @typedef {import('./wire.js').Group} Group
 * @typedef {import('./wire.js').DeviceInfo} DeviceInfo
 *
 * @typedef {'request' | 'cancel' | 'release' | 'take' | 'hand' | 'reset' | 'signin'} Act
 * @typedef {object} Standing
 * @property {'wait' | 'free' | 'watch' | 'hold' | 'armed' | 'stopped' | 'fault'} tone
 * @property {string} title
 * @property {string} hint
 * @property {{act: Act, label: string, primary?: boolean}[]} acts
 *
 * @typedef {object} Facts
 * @property {boolean} open
 * @property {boolean} told
 * @property {string} you
 * @property {boolean} operates
 * @property {boolean} admin
 * @property {Group | null} group
 * @property {boolean} neutral whether all hands are off
 * @property {boolean} [typing] whether it is keys that are held
 * @property {boolean} frozen
 * @property {boolean} seen whether there ever was a picture
 */

/** Where the agent gave no sentence. @type {Record<string, string>} */
const WHY = {
  lease: 'The wheel was let go.',
  connection: 'The connection of who drove has ended.',
  silence: 'Nothing was heard from this page for a moment.',
  hidden: 'The page was not in sight.',
  gamepad: 'The gamepad was unplugged.',
  picture: 'The picture stood still.',
  battery: 'The battery is low.',
  device: 'A device has failed.',
  keeper: 'What moves the robot had to start again.',
  stop: 'Somebody pressed stop.',
  taken: 'Somebody else took the wheel.',
};

/** What an operator's own page brought about. */
const OWN = ['silence', 'hidden', 'gamepad', 'picture', 'person'];

/** Why a set-point moved nothing. @type {Record<string, string>} */
const NOT_TAKEN = {
  late: 'Slow link: late commands are ignored',
  picture: 'The picture is too old to drive by',
  fault: 'A device has failed',
};

/** A round trip above this is slow, ms. */
export const SLOW_MS = 250;
/** So much of the picture lost is felt, percent. */
export const LOSSY = 3;

/**
 * The link in a word.
 * @param {{rtt: number | null, loss: number | null, silent: boolean, open: boolean}} figures
 * @returns {{text: string, bad: boolean}}
 */
export function linkOf({ rtt, loss, silent, open }) {
  if (!open || silent) return { text: 'None', bad: true };
  if (rtt === null) return { text: '–', bad: false };
  if (rtt > SLOW_MS) return { text: 'Slow', bad: true };
  return (loss ?? 0) >= LOSSY ? { text: 'Weak', bad: true } : { text: 'Good', bad: false };
}

/** @param {Group} group */
export const reason = ({ text, why }) => (text ? text.charAt(0).toUpperCase() + text.slice(1) : (WHY[why] ?? ''));

/**
 * Why there are no gamepads in a page that came in the clear, and what to do about it; pieces to type or to open are marked as `code`.
 * @param {{origin: string, host: string}} page @param {string} src the agent's URL, '' for a broker
 * @returns {{text: string, code?: boolean}[]}
 */
export function insecure(page, src) {
  const why = 'Browsers show gamepads only to a page that came over HTTPS, or from this very computer.';
  if (!src.startsWith(`${page.origin}/`)) return [{ text: `${why} Open this page by https:// from where it is kept.` }];
  return [
    { text: `${why} In the agent’s configuration write ` },
    { text: 'http: {tls: true}', code: true },
    { text: ', or ' },
    { text: 'tls: true', code: true },
    { text: ' in the section that is there; restart it, and open ' },
    { text: `https://${page.host}/`, code: true },
  ];
}

/** @param {Facts} facts @returns {Standing} */
export function standing({ open, told, you, operates, admin, group, neutral, typing = false, frozen, seen }) {
  if (!open || !told) return { tone: 'wait', title: 'Connecting to the controls…', hint: '', acts: [] };
  if (!group) return { tone: 'wait', title: 'Nothing here can be driven', hint: '', acts: [] };
  const why = reason(group);
  /** @type {Standing['acts']} */
  const signin = operates ? [] : [{ act: 'signin', label: 'Sign in to drive' }];
  const mine = Boolean(group.lease);
  if (group.state === 'stopped') {
    const acts = /** @type {Standing['acts']} */ (operates ? [{ act: 'reset', label: 'Release the stop', primary: true }] : signin);
    // What follows the semicolon is said to the one who reads it.
    const who = group.stopped_by === you ? 'You pressed stop.' : why.replace(/;[^;]*$/, '.');
    return { tone: 'stopped', title: 'Stopped', hint: `${who} Nothing moves until ${operates ? 'you release it' : 'an operator releases it'}.`.trim(), acts };
  }
  if (group.state === 'fault') {
    return { tone: 'fault', title: 'It cannot move now', hint: why, acts: mine ? [{ act: 'release', label: 'Let go of the wheel' }] : signin };
  }
  const first = group.queue[0];
  if (mine) {
    /** @type {Standing['acts']} */
    const acts = first ? [{ act: 'hand', label: `Hand over to ${first.name || 'the next'}` }] : [];
    const waits = first ? `${first.name || 'Somebody'} would like to drive.` : '';
    const hint = (/** @type {string} */ text) => `${text} ${waits}`.trim();
    if (frozen) return { tone: 'hold', title: seen ? 'The picture stands still' : 'Waiting for the picture', hint: hint('Nothing moves until it is live.'), acts };
    if (group.state === 'disarmed') {
      // The agent speaks of the operator, which is the person who reads this.
      const own = OWN.includes(group.why) ? (WHY[group.why] ?? '') : why;
      return { tone: 'hold', title: neutral ? 'Getting ready…' : `Let go of the ${typing ? 'keys' : 'stick'}`, hint: hint(neutral ? own : own || 'Then you drive.'), acts };
    }
    return { tone: 'armed', title: 'You drive', hint: waits, acts };
  }
  const place = group.queue.findIndex((each) => each.viewer === you);
  if (group.holder) {
    const name = group.holder_name || 'Somebody else';
    if (!operates) return { tone: 'watch', title: `${name} drives`, hint: 'You watch, and may stop.', acts: signin };
    /** @type {Standing['acts']} */
    const take = admin ? [{ act: 'take', label: 'Take over' }] : [];
    if (place >= 0) {
      const hint = place === 0 ? 'You are next.' : `You are number ${place + 1} in the queue.`;
      return { tone: 'watch', title: `${name} drives`, hint, acts: [{ act: 'cancel', label: 'Do not wait' }, ...take] };
    }
    return { tone: 'watch', title: `${name} drives`, hint: why, acts: [{ act: 'request', label: 'Ask for the wheel', primary: true }, ...take] };
  }
  if (!operates) return { tone: 'watch', title: 'Nobody drives', hint: 'You watch, and may stop.', acts: signin };
  return { tone: 'free', title: 'Ready to drive', hint: why, acts: [{ act: 'request', label: 'Take the wheel', primary: true }] };
}

/**
 * A sentence where driving is hindered, '' while it is not.
 * @param {{why: string, silent: boolean, late: number | null}} figures
 */
export function hindrance({ why, silent }) {
  if (silent) return 'The robot does not answer';
  return NOT_TAKEN[why] ?? '';
}

/**
 * The battery's charge, if there is one.
 * @param {readonly DeviceInfo[]} devices
 * @param {(device: string, reading: string) => number | boolean | string | null} value
 * @returns {{text: string, warn: boolean, share: number | null} | null} `share` 0 to 1 where it is known
 */
export function batteryOf(devices, value) {
  const all = devices.flatMap((device) => device.readings.map((reading) => ({ device, reading })));
  const fits = (/** @type {typeof all[0]} */ { device, reading }) => /battery|charge/.test(`${reading.name} ${device.icon}`) && reading.kind === 'number';
  const found = all.find((each) => fits(each) && each.reading.unit === '%') ?? all.find((each) => fits(each) && each.reading.unit === 'V');
  if (!found) return null;
  const { reading } = found;
  const now = value(found.device.name, reading.name);
  if (typeof now !== 'number') return null;
  const low = reading.minimum ?? (reading.unit === '%' ? 0 : null);
  const high = reading.maximum ?? (reading.unit === '%' ? 100 : null);
  const share = low !== null && high !== null && high > low ? Math.max(0, Math.min(1, (now - low) / (high - low))) : null;
  const digits = reading.unit === '%' ? 0 : reading.digits;
  return { text: `${now.toFixed(digits)} ${reading.unit}`, warn: typeof reading.warn_below === 'number' && now < reading.warn_below, share };
}

/**
 * How fast it goes, where a device that moves measures it.
 * @param {readonly DeviceInfo[]} devices
 * @param {(device: string, reading: string) => number | boolean | string | null} value
 * @returns {{text: string, unit: string, share: number | null} | null}
 */
export function speedOf(devices, value) {
  for (const device of devices) {
    const reading = device.readings.find((each) => each.kind === 'number' && (/^(speed|velocity)/.test(each.name) || /^(m|km)\/(s|h)$/.test(each.unit)));
    const now = reading && value(device.name, reading.name);
    if (reading && typeof now === 'number') {
      return { text: Math.abs(now).toFixed(reading.digits), unit: reading.unit, share: reading.maximum ? Math.min(1, Math.abs(now) / reading.maximum) : null };
    }
  }
  return null;
}
