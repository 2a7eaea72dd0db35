// @ts-check
/** Elements that are loaded later than the page. */

/**
 * Show the form for the agent's token in `parent`, or take it away.
 * @param {Element | ShadowRoot | null} parent
 * @param {HTMLElement | null} form the one that is there
 * @param {import('./agent.js').Agent | null} agent that asks, null where none does
 * @returns {HTMLElement | null} the one that is there now
 */
export function askToken(parent, form, agent) {
  if (!agent) {
    form?.remove();
    return null;
  }
  const element = /** @type {import('./signin.js').EdgeSignin} */ (form ?? document.createElement('edge-signin'));
  if (!form) parent?.append(element);
  void import('./signin.js').then(() => (element.agent = agent));
  return element;
}

/**
 * Say who is at fault in `parent`; nothing where the bar (health.js) is not loaded yet.
 * @param {Element | ShadowRoot | null} parent
 * @param {import('./health.js').EdgeHealth | null} bar the one that is there
 * @param {import('./fault.js').Fault | null} fault
 */
export function sayFault(parent, bar, fault) {
  if (!bar && !customElements.get('edge-health')) return null;
  const element = bar ?? /** @type {import('./health.js').EdgeHealth} */ (document.createElement('edge-health'));
  if (!bar) parent?.append(element);
  element.fault = fault;
  return element;
}
