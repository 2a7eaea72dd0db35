// @ts-check
/** A camera that is opened grows from its place in the grid, one that is left shrinks back to it. */
const calm = matchMedia('(prefers-reduced-motion: reduce)');

/** @param {HTMLElement} tile where it is now @param {DOMRect} from where it was */
export function glide(tile, from) {
  const to = tile.getBoundingClientRect();
  if (calm.matches || !to.width) return;
  const scale = Math.max(from.width / to.width, from.height / to.height);
  const x = from.x + from.width / 2 - (to.x + to.width / 2);
  const y = from.y + from.height / 2 - (to.y + to.height / 2);
  tile.animate([{ transform: `translate(${x}px, ${y}px) scale(${scale})`, zIndex: 2 }, { transform: 'none', zIndex: 2 }], {
    duration: 180,
    easing: 'cubic-bezier(.2, 0, 0, 1)',
  });
}
