// @ts-check
/** What a page says beside its pictures: the list of keyboard shortcuts, and that the agent was updated. */
import { el } from './dom.js';
import { iconButton } from './icons.js';

const SHORTCUTS = [
  ['1 – 9', 'Open a camera'],
  ['Esc', 'Back to all cameras'],
  ['← →', 'Previous, next camera'],
  ['F', 'Full screen'],
  ['Z', 'Fit or fill'],
  ['S', 'Save a snapshot (with Shift: PNG)'],
  ['P', 'Picture in picture'],
  ['D', 'Details'],
  ['Q', 'Picture quality'],
  ['?', 'This list'],
];

export function help() {
  const dialog = el('dialog', { 'aria-labelledby': 'shortcuts' });
  const list = el('dl');
  for (const [keys, text] of SHORTCUTS) list.append(el('div', {}, el('dt', {}, text), el('dd', {}, el('kbd', {}, keys))));
  const close = iconButton('close', 'Close', () => dialog.close());
  dialog.append(el('div', { class: 'head' }, el('h2', { id: 'shortcuts' }, 'Keyboard shortcuts'), close), list);
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {string} to */
export function offerReload(to) {
  if (document.querySelector('.update')) return;
  const button = el('button', { class: 'plain', type: 'button' }, 'Reload');
  button.addEventListener('click', () => location.reload());
  document.body.append(el('div', { class: 'update', role: 'status' }, `The agent was updated to ${to}.`, button));
}
