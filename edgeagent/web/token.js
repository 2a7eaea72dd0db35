// @ts-check
/** A form for an operator's token, for those whom the page's ticket lets only watch. */
import { el, setText } from './dom.js';

/**
 * @param {import('./control.js').Control} control
 * @param {() => void} done called once the person may operate
 */
export function tokenForm(control, done) {
  const token = el('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, autocapitalize: 'off', spellcheck: 'false' });
  const user = el('input', { type: 'text', name: 'username', autocomplete: 'username', value: 'operator', hidden: true, tabindex: '-1' });
  const problem = el('p', { class: 'problem', role: 'alert' });
  const button = el('button', { class: 'primary', type: 'submit' }, 'Sign in');
  const text = el('p', {}, 'The owner gives a token to each one who may drive and switch.');
  const form = el('form', { class: 'token' }, text, user, el('label', {}, 'Token', token), problem, button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    setText(problem, '');
    try {
      await control.signIn(token.value.trim(), performance.now(), { keep: true });
      done();
    } catch (error) {
      setText(problem, /** @type {Error} */ (error).message);
      token.select();
    }
    button.disabled = false;
  });
  return { form, focus: () => token.focus({ preventScroll: true }) };
}
