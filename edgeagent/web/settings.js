// @ts-check
/**
 * Where the agent is and how to reach it: from the URL's fragment, from what was remembered, or from the page's own server.
 *
 * @typedef {object} Settings
 * @property {string} src the agent's URL with its final slash; '' where it is reached over a broker only
 * @property {string} device
 * @property {string} broker `ws:` or `wss:` URL, '' for none
 * @property {string} username for the broker
 * @property {string} password
 * @property {string} token
 * @property {'' | 'mqtt' | 'whep'} door only this way, for tests and for the curious
 */

/** @returns {Settings} */
export const noSettings = () => ({ src: '', device: '', broker: '', username: '', password: '', token: '', door: '' });

/** A device's, camera's or viewer's name on the wire. */
export const NAME = /^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/;

/**
 * From an element's attributes `src`, or `device` and `broker`, and `token`.
 * @param {Element} element
 * @returns {Settings | null} null where they name no agent
 */
export function settingsOf(element) {
  const get = (/** @type {string} */ name) => element.getAttribute(name)?.trim() ?? '';
  const src = get('src') ? httpUrl(new URL(get('src'), document.baseURI).href) : '';
  const broker = brokerUrl(get('broker'));
  return src || (broker && get('device')) ? { ...noSettings(), src, broker, device: get('device'), token: get('token') } : null;
}

/**
 * `#device=porch&broker=wss://…&camera=gate` as an object; `#drive/gate` drives by that camera; unknown keys are kept out of the way.
 * @param {string} hash
 * @returns {{settings: Settings | null, camera: string, drive: boolean, paused: boolean, probe: boolean, door: Settings['door']}} `settings` is null
 *   where the fragment names no agent
 */
export function fromFragment(hash) {
  const params = paramsOf(hash);
  const get = (/** @type {string} */ key) => (params.get(key) ?? '').trim();
  const door = /** @type {Settings['door']} */ (['mqtt', 'whep'].includes(get('door')) ? get('door') : '');
  const camera = NAME.test(get('camera')) ? get('camera') : '';
  const rest = { camera, drive: camera !== '' && params.has('drive'), paused: params.has('paused'), probe: params.has('probe'), door };
  const device = get('device').toLowerCase();
  const src = httpUrl(get('agent'));
  const broker = brokerUrl(get('broker'));
  if (!src && !(broker && NAME.test(device))) return { settings: null, ...rest };
  return {
    settings: { src, device: NAME.test(device) ? device : '', broker, username: get('user'), password: get('password'), token: get('token'), door },
    ...rest,
  };
}

/**
 * The fragment without what must not stay in the history, with another camera.
 * @param {string} hash @param {string} camera '' for none @param {boolean} [drive] by this camera
 */
export function toFragment(hash, camera, drive = false) {
  const params = paramsOf(hash);
  for (const key of ['password', 'token', 'drive']) params.delete(key);
  if (camera && !drive) params.set('camera', camera);
  else params.delete('camera');
  const rest = params.toString().replaceAll('%3A', ':').replaceAll('%2F', '/').replace(/=(?=&|$)/g, '');
  const text = drive ? `drive/${camera}${rest && `&${rest}`}` : rest;
  return text ? `#${text}` : '';
}

/** @param {string} hash */
const paramsOf = (hash) => new URLSearchParams(hash.replace(/^#/, '').replace(/^drive\//, 'drive&camera='));

/**
 * @param {string} text an http(s) address, perhaps without scheme
 * @returns {string} a URL that ends in a slash, '' where it is none
 */
export function httpUrl(text) {
  const url = parse(text, 'https:');
  if (!url || !/^https?:$/.test(url.protocol)) return '';
  url.hash = url.search = '';
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url.href;
}

/**
 * @param {string} text `wss://host/mqtt`, or only the host
 * @returns {string} '' where it is none
 */
export function brokerUrl(text) {
  const url = parse(text, 'wss:');
  return url && /^wss?:$/.test(url.protocol) ? url.href : '';
}

/** @param {string} text @param {string} scheme */
function parse(text, scheme) {
  if (!text) return null;
  try {
    return new URL(/^[a-z]+:\/\//i.test(text) ? text : `${scheme}//${text}`);
  } catch {
    return null;
  }
}
