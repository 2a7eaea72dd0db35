// @ts-check
/** What a page on a static host remembers of the agent it shows. */
import { NAME, noSettings } from './settings.js';

/** @typedef {import('./settings.js').Settings} Settings */

const KEY = 'edge.agent';

/**
 * What the form saved. The token and the password are kept only where the person asked for it.
 * @param {Pick<Storage, 'getItem'>} storage
 * @returns {Settings | null}
 */
export function remembered(storage) {
  try {
    const saved = JSON.parse(storage.getItem(KEY) ?? 'null');
    if (!saved || typeof saved !== 'object') return null;
    const settings = noSettings();
    for (const key of /** @type {const} */ (['src', 'device', 'broker', 'username', 'password', 'token'])) {
      if (typeof saved[key] === 'string') settings[key] = saved[key];
    }
    return settings.src || (settings.broker && NAME.test(settings.device)) ? settings : null;
  } catch {
    return null;
  }
}

/** @param {Pick<Storage, 'setItem' | 'removeItem'>} storage @param {Settings | null} settings null forgets */
export function remember(storage, settings) {
  try {
    if (settings) storage.setItem(KEY, JSON.stringify({ ...settings, door: undefined }));
    else storage.removeItem(KEY);
  } catch {
    // Private browsing may refuse to store: the page works, it only forgets.
  }
}
