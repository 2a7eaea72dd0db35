// @ts-check
/**
 * Stamp v1: frame number and capture time in the pixels, so that delay is measured through the whole chain.
 *
 * 40 × 2 square cells at the bottom-left corner of the picture, row-major, most significant bit first, white is 1:
 * 8 bits magic 0xEA, 24 bits frame number, 40 bits Unix time in ms modulo 2^40, 8 bits CRC-8 (polynomial 0x07, start 0)
 * over the nine bytes before it.
 */
export const COLUMNS = 40;
export const ROWS = 2;
const MAGIC = 0xea;
const WRAP = 2 ** 40;

/** How many are kept, and how long those count that a delay is drawn from. */
const KEEP = 900;
const DELAY_MS = 3000;
/** How often a picture is read for a stamp: while nothing says that it carries one; while it does. */
const LOOK_MS = 1000;
const READ_MS = 100;

/**
 * @typedef {{frame: number, time: number}} Stamp frame number and Unix time in ms modulo 2^40
 *
 * @typedef {object} Sample a stamped frame on the screen
 * @property {number} frame its number
 * @property {number} time when it was taken, agent's Unix ms modulo 2^40
 * @property {number} display when it is expected on the screen, page's ms
 * @property {number} at when the page was told, page's ms
 * @property {number} width of the picture
 */

/**
 * Side of a cell in pixels of the picture, `max(8, 8 * round(width / 640))` with halves to even.
 * @param {number} width
 */
export function cellSize(width) {
  const ratio = width / 640;
  const floor = Math.floor(ratio);
  const rounded = ratio - floor === 0.5 ? floor + (floor % 2) : Math.round(ratio);
  return Math.max(8, 8 * rounded);
}

/** @param {ArrayLike<number>} bytes @param {number} length */
export function crc8(bytes, length) {
  let crc = 0;
  for (let i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : (crc << 1) & 0xff;
  }
  return crc;
}

/**
 * Read a stamp from RGBA pixels that hold exactly the grid, each cell `cell` pixels wide.
 * @param {ArrayLike<number>} rgba
 * @param {number} cell
 * @returns {Stamp | null} null where the picture carries none, or it is damaged
 */
export function decodeStamp(rgba, cell) {
  const width = COLUMNS * cell;
  const bytes = new Uint8Array((COLUMNS * ROWS) / 8);
  // The middle half of a cell: its edges are blurred by the codec.
  const from = Math.floor(cell / 4);
  const to = Math.max(from + 1, Math.ceil((cell * 3) / 4));
  for (let i = 0; i < COLUMNS * ROWS; i++) {
    const left = (i % COLUMNS) * cell;
    const top = Math.floor(i / COLUMNS) * cell;
    let sum = 0;
    for (let y = top + from; y < top + to; y++) {
      for (let x = left + from; x < left + to; x++) sum += rgba[(y * width + x) * 4 + 1];
    }
    const white = sum / (to - from) ** 2 > 128;
    bytes[i >> 3] = (bytes[i >> 3] << 1) | (white ? 1 : 0);
    if (i === 7 && bytes[0] !== MAGIC) return null;
  }
  if (crc8(bytes, 9) !== bytes[9]) return null;
  let time = 0;
  for (let i = 4; i < 9; i++) time = time * 256 + bytes[i];
  return { frame: (bytes[1] << 16) | (bytes[2] << 8) | bytes[3], time };
}

/**
 * Age in ms of a stamp at `now` (Unix ms on the clock that made the stamp), unwrapped to the nearest.
 * @param {number} now
 * @param {number} time
 */
export function stampAge(now, time) {
  const age = (((now % WRAP) - time) % WRAP + WRAP) % WRAP;
  return age > WRAP / 2 ? age - WRAP : age;
}

/** Reads stamps from a `<video>` through one small canvas of its own. */
export class StampReader {
  static #CELL = 4;
  /** @type {OffscreenCanvasRenderingContext2D | null} */
  #context = null;

  /**
   * @param {HTMLVideoElement} video
   * @returns {Stamp | null}
   */
  read(video) {
    const cell = cellSize(video.videoWidth);
    const [width, height] = [COLUMNS * cell, ROWS * cell];
    if (video.videoWidth < width || video.videoHeight < height) return null;
    const small = StampReader.#CELL;
    this.#context ??= new OffscreenCanvas(COLUMNS * small, ROWS * small).getContext('2d', { willReadFrequently: true });
    if (!this.#context) return null;
    const [w, h] = [COLUMNS * small, ROWS * small];
    this.#context.drawImage(video, 0, video.videoHeight - height, width, height, 0, 0, w, h);
    return decodeStamp(this.#context.getImageData(0, 0, w, h).data, small);
  }
}

/** The stamps of the frames that were shown. */
export class Samples {
  /** @type {Sample[]} */
  list = [];
  #reader = new StampReader();
  #readAt = 0;
  #misses = 0;

  /**
   * A frame is on show.
   * @param {HTMLVideoElement} video
   * @param {number} at page's ms
   * @param {number} display page's ms
   * @param {boolean} all whether none may be left out
   */
  take(video, at, display, all) {
    if (!all && at - this.#readAt < (this.#misses > 2 ? LOOK_MS : READ_MS)) return;
    this.#readAt = at;
    /** @type {Stamp | null} */
    let stamp = null;
    try {
      stamp = this.#reader.read(video);
    } catch {
      // A frame that went away between the callback and the reading.
    }
    this.#misses = stamp ? 0 : this.#misses + 1;
    if (!stamp) return;
    this.list.push({ ...stamp, display, at, width: video.videoWidth });
    if (this.list.length > KEEP) this.list.splice(0, this.list.length - KEEP);
  }

  /**
   * Glass to glass: the median of the last three seconds.
   * @param {{offset: number, uncertainty: number}} clock the agent's
   * @param {number} now page's ms
   * @returns {{ms: number, uncertainty: number, count: number} | null}
   */
  delay({ offset, uncertainty }, now) {
    const ages = this.list.filter((each) => each.at >= now - DELAY_MS).map((each) => stampAge(each.display + offset, each.time));
    ages.sort((a, b) => a - b);
    return ages.length ? { ms: ages[ages.length >> 1], uncertainty, count: ages.length } : null;
  }

  clear() {
    this.list = [];
    this.#misses = 0;
  }
}
