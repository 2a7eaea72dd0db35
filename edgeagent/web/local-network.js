// @ts-check
/**
 * A page from a public address may reach a local one only after the person allowed it (Chromium's Local Network Access). Loaded
 * only by a page that came from elsewhere than its agent.
 */

/**
 * Whether a page from `page` needs the browser's permission to reach `target`: from elsewhere into a local network.
 * @param {string} page host name @param {string} target host name
 */
export const entersLocalNetwork = (page, target) => isLocal(target) && !isLocal(page);

/** Whether a host is in the local network, as far as its name tells. @param {string} host */
function isLocal(host) {
  if (/^\[/.test(host)) return /^\[(::1\]|f[cd]|fe[89ab])/i.test(host);
  if (/^[\d.]+$/.test(host)) return /^(0|10|127|169\.254|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./.test(host);
  return !host.includes('.') || /\.(local|localhost|lan|internal|home\.arpa|fritz\.box)$/i.test(host);
}

/**
 * What the person should read before the browser asks for permission, null where it does not ask.
 * @param {string} to address of the agent or the broker
 * @returns {Promise<import('./words.js').Words | null>}
 */
export async function explanation(to) {
  if (!entersLocalNetwork(location.hostname, new URL(to).hostname) || (await permission(to)) !== 'prompt') return null;
  return {
    kind: 'ask',
    text: 'Your browser is about to ask a question',
    hint: 'The cameras are in your own network, and this page comes from elsewhere. Allow it to reach devices in your network, else there is no picture.',
    age: '',
  };
}

/**
 * State of the browser's permission to reach the local network, or this machine.
 * @param {string} to address of the agent or the broker
 * @returns {Promise<string>} `granted`, `prompt`, `denied`, '' where the browser has no such rule
 */
export async function permission(to) {
  const own = /^(localhost|127\.|\[::1\])/.test(new URL(to).hostname);
  for (const name of [own ? 'loopback-network' : 'local-network', 'local-network-access']) {
    try {
      return (await navigator.permissions.query({ name: /** @type {PermissionName} */ (name) })).state;
    } catch {
      // A browser that does not know this name has another one, or no such rule.
    }
  }
  return '';
}
