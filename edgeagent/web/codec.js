// @ts-check
/** A browser without H.264, which is all that agents send: why, and what helps. */

/**
 * What the agent would answer to such an offer, in words for this browser.
 * @param {string} sid @param {string} agent the browser's name as it tells it
 * @returns {Extract<import('./types.js').AgentMessage, {t: 'error'}>}
 */
export function refusal(sid, agent) {
  const message = /firefox\//i.test(agent)
    ? 'Firefox has no H.264 here: its OpenH264 plugin is missing. Switch it on under “Add-ons and themes”, “Plugins”, or use another browser.'
    : 'This browser has no H.264 for live video: use Chrome, Edge, Safari or Firefox.';
  return { v: 1, t: 'error', sid, n: 1, code: 406, message };
}
