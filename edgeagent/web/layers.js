// @ts-check
/**
 * The renditions of a camera and which of them this viewer wants.
 *
 * @typedef {import('./types.js').LayerState} LayerState
 */

/**
 * What to wish for.
 * @param {readonly LayerState[]} layers best first
 * @param {boolean} saver whether data are to be saved
 * @param {string} chosen `auto` or a layer's name, as the person chose it once
 */
export function wishFor(layers, saver, chosen) {
  if (layers.length < 2) return 'auto';
  if (saver) return layers[layers.length - 1].name;
  return layers.some((layer) => layer.name === chosen) ? chosen : 'auto';
}

/**
 * What a person may choose from, `auto` first.
 * @param {readonly LayerState[]} layers
 * @returns {{name: string, label: string, size: string}[]}
 */
export function choices(layers) {
  const labels = [['Best'], ['Best', 'Small'], ['Best', 'Medium', 'Small']][layers.length - 1];
  const named = layers.map(({ name, width, height }, i) => {
    const size = width && height ? `${width} × ${height}` : '';
    return { name, label: labels?.[i] ?? (size || name), size: labels ? size : '' };
  });
  return [{ name: 'auto', label: 'Automatic', size: 'As good as the network allows' }, ...named];
}
