// @ts-check
/**
 * Where the pictures go: rows of pictures, every row as wide as can be, arranged so that they cover most of the window.
 * Order is kept. Nothing is cropped or distorted; what is left over is split evenly around.
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 */

/**
 * @param {number[]} aspects width / height of each picture
 * @param {number} width of the window, px
 * @param {number} height
 * @param {{gap?: number, fill?: boolean}} [options] `fill` stretches the boxes over the whole window; the pictures are then cropped
 * @returns {Box[]} whole pixels
 */
export function arrange(aspects, width, height, { gap = 4, fill = false } = {}) {
  if (!aspects.length || width <= 0 || height <= 0) return aspects.map(() => ({ x: 0, y: 0, width: 0, height: 0 }));
  /** @type {{rows: number[][], heights: number[], area: number} | null} */
  let best = null;
  for (const rows of partitions(aspects)) {
    const rowWidths = rows.map((row) => width - gap * (row.length - 1));
    const sums = rows.map((row) => row.reduce((sum, aspect) => sum + aspect, 0));
    if (rowWidths.some((each) => each <= 0)) continue;
    const natural = rows.map((_, i) => rowWidths[i] / sums[i]);
    const room = height - gap * (rows.length - 1);
    if (room <= 0) continue;
    const total = natural.reduce((sum, each) => sum + each, 0);
    const heights = shrink(natural, room, total);
    const area = heights.reduce((sum, each, i) => sum + each * each * sums[i], 0);
    // A hair's breadth of gain is not worth an odd arrangement: bigger pictures first, fewer rows.
    if (!best || area > best.area * 1.001) best = { rows, heights, area };
  }
  if (!best) return aspects.map(() => ({ x: 0, y: 0, width, height }));
  return place(best.rows, best.heights, width, height, gap, fill);
}

/**
 * Row heights that fit into `room`: rows that are taller than an even share give way first, so that none becomes tiny.
 * @param {number[]} natural @param {number} room @param {number} total
 */
function shrink(natural, room, total) {
  if (total <= room) return natural;
  let [low, high] = [0, Math.max(...natural)];
  for (let i = 0; i < 40; i++) {
    const cap = (low + high) / 2;
    if (natural.reduce((sum, each) => sum + Math.min(each, cap), 0) > room) high = cap;
    else low = cap;
  }
  return natural.map((each) => Math.min(each, low));
}

/** @param {number[][]} rows @param {number[]} heights @param {number} width @param {number} height @param {number} gap @param {boolean} fill @returns {Box[]} */
function place(rows, heights, width, height, gap, fill) {
  const room = height - gap * (rows.length - 1);
  const total = heights.reduce((sum, each) => sum + each, 0);
  const scaled = fill ? heights.map((each) => (each * room) / total) : heights;
  let top = fill ? 0 : (room - total) / 2;
  /** @type {Box[]} */
  const boxes = [];
  rows.forEach((row, r) => {
    const sum = row.reduce((all, aspect) => all + aspect, 0);
    const space = width - gap * (row.length - 1);
    const used = fill ? space : sum * scaled[r];
    let left = (space - used) / 2;
    for (const aspect of row) {
      const wide = (used * aspect) / sum;
      const [x, y] = [Math.round(left), Math.round(top)];
      boxes.push({ x, y, width: Math.round(left + wide) - x, height: Math.round(top + scaled[r]) - y });
      left += wide + gap;
    }
    top += scaled[r] + gap;
  });
  return boxes;
}

/**
 * Ways to break the pictures into rows. All of them up to nine pictures; beyond, only rows that differ by one.
 * @param {number[]} aspects
 * @returns {Generator<number[][]>}
 */
function* partitions(aspects) {
  const n = aspects.length;
  if (n > 9) {
    for (let count = 1; count <= n; count++) {
      const rows = [];
      for (let r = 0, from = 0; r < count; r++) {
        const size = Math.floor(n / count) + (r >= count - (n % count) ? 1 : 0);
        rows.push(aspects.slice(from, from + size));
        from += size;
      }
      yield rows;
    }
    return;
  }
  const masks = Array.from({ length: 2 ** (n - 1) }, (_, mask) => mask);
  masks.sort((a, b) => ones(a) - ones(b) || a - b);
  for (const mask of masks) {
    /** @type {number[][]} */
    const rows = [[]];
    aspects.forEach((aspect, i) => {
      rows[rows.length - 1].push(aspect);
      if (i < n - 1 && mask & (1 << i)) rows.push([]);
    });
    yield rows;
  }
}

/** @param {number} mask */
const ones = (mask) => mask.toString(2).replaceAll('0', '').length;
