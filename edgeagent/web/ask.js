// @ts-check
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
