// @ts-check
/** Figures as a person reads them. */

/**
 * The delay from glass to glass, never without its uncertainty; '' while it is not known.
 * @param {{ms: number, uncertainty: number} | null} delay
 */
export function delayText(delay) {
  if (!delay) return '';
  return `${Math.round(delay.ms)} ms ± ${Math.max(1, Math.ceil(delay.uncertainty))}`;
}

/** The unit stays with its figure. @param {number} bitsPerSecond */
export function bitrateText(bitsPerSecond) {
  if (bitsPerSecond >= 999_500) return `${(bitsPerSecond / 1e6).toFixed(bitsPerSecond < 9_950_000 ? 2 : 1)}\u00a0Mbit/s`;
  return `${Math.round(bitsPerSecond / 1000)}\u00a0kbit/s`;
}

/** @param {string} path as `stats.js` gives it */
export function pathText(path) {
  switch (path) {
    case 'host':
      return 'Direct, in your network';
    case 'srflx':
      return 'Direct, over the internet';
    case 'relay':
      return 'Through a relay';
    default:
      return '';
  }
}
