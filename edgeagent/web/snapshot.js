// @ts-check
/** Frames as files. */
import { el } from './dom.js';

/**
 * The frame on show in full size.
 * @param {HTMLVideoElement | HTMLCanvasElement | null} source
 * @param {'image/jpeg' | 'image/png'} type
 * @returns {Promise<Blob | null>} null where there is no picture
 */
export async function take(source, type) {
  if (!source) return null;
  const canvas = document.createElement('canvas');
  canvas.width = source instanceof HTMLVideoElement ? source.videoWidth : source.width;
  canvas.height = source instanceof HTMLVideoElement ? source.videoHeight : source.height;
  canvas.getContext('2d')?.drawImage(source, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, type, 0.92));
}

/** @param {Blob} blob @param {string} name of whose picture it is; the time is added */
export function save(blob, name) {
  const now = new Date();
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  const link = el('a', { href: URL.createObjectURL(blob), download: `${name}-${day}-${time}.${blob.type === 'image/png' ? 'png' : 'jpg'}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}
