// @ts-check
/** The icons: outlines on a 24 px grid, in the colour of the text. */
const PATHS = {
  back: 'M14.5 5.5 8 12l6.5 6.5',
  forward: 'M9.5 5.5 16 12l-6.5 6.5',
  close: 'M6.5 6.5l11 11M17.5 6.5l-11 11',
  snapshot:
    'M4 9a2 2 0 0 1 2-2h1.6l1.2-1.8a1 1 0 0 1 .8-.45h4.8a1 1 0 0 1 .8.45L16.4 7H18a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2zM12 16a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4z',
  expand: 'M9 4.5H4.5V9M15 4.5h4.5V9M9 19.5H4.5V15M15 19.5h4.5V15',
  shrink: 'M4.5 9H9V4.5M19.5 9H15V4.5M4.5 15H9v4.5M19.5 15H15v4.5',
  pip: 'M20.5 10.5v-4a1.5 1.5 0 0 0-1.5-1.5H5a1.5 1.5 0 0 0-1.5 1.5v9A1.5 1.5 0 0 0 5 17h4.5M13.5 13h6a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1h-6a1 1 0 0 1-1-1v-4a1 1 0 0 1 1-1z',
  details: 'M5 19.5v-6M12 19.5v-15M19 19.5V10',
  fill: 'M3.5 5.5h17v13h-17zM7 12h10M9.2 9.8 7 12l2.2 2.2M14.8 9.8 17 12l-2.2 2.2',
  fit: 'M3.5 5.5h17v13h-17zM7.5 9h9v6h-9z',
  keyboard: 'M3.5 6.5h17v11h-17zM7 10h.01M10.3 10h.01M13.7 10h.01M17 10h.01M7.5 14h9',
  play: 'M8 5.5v13l10.5-6.5z',
  copy: 'M9 9h10v10.5H9zM15 9V4.5H5V15h4',
  quality: 'M4 8h8M18 8h2M15 10.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM4 16h2M12 16h8M9 18.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z',
  saver: 'M5 19.5c-.5-8.5 4.5-14 14.5-14.5C20 14 15 19 8 18.5M5 19.5c2-5 5-8 9-10',
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {IconName} name */
const icon = (name) => outline(PATHS[name]);

/**
 * @param {string} d of a path on the grid
 * @returns {SVGSVGElement}
 */
export function outline(d) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  for (const [key, value] of Object.entries({
    viewBox: '0 0 24 24',
    width: '24',
    height: '24',
    fill: 'none',
    stroke: 'currentColor',
    'stroke-width': '1.75',
    'stroke-linecap': 'round',
    'stroke-linejoin': 'round',
    'aria-hidden': 'true',
  })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', d);
  svg.append(path);
  return svg;
}

/**
 * A button that shows an icon and says its name.
 * @param {IconName} name
 * @param {string} label for screen readers, and as the tooltip
 * @param {() => void} [act]
 */
export function iconButton(name, label, act) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'icon';
  relabel(button, label);
  button.append(icon(name));
  if (act) button.addEventListener('click', act);
  return button;
}

/** @param {HTMLButtonElement} button @param {string} label @param {IconName} [name] */
export function relabel(button, label, name) {
  if (button.getAttribute('aria-label') !== label) {
    button.setAttribute('aria-label', label);
    button.title = label;
  }
  if (name && button.dataset.icon !== name) {
    button.dataset.icon = name;
    button.replaceChildren(icon(name));
  }
}
