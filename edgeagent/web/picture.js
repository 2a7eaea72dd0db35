// @ts-check
/**
 * The moving picture of one camera: a `<video>` for each peer that brings it, one of them shown. A new one is shown when its
 * first frame is there; the last frame of one that ends stays on a canvas.
 *
 * @typedef {import('./agent.js').Attachment} Attachment
 * @typedef {import('./stamp.js').Stamp} Stamp
 *
 * @typedef {object} Sample a stamped frame on the screen
 * @property {number} frame its number
 * @property {number} time when it was taken, agent's Unix ms modulo 2^40
 * @property {number} display when it is expected on the screen, page's ms
 * @property {number} at when the page was told, page's ms
 * @property {number} width of the picture
 *
 * @typedef {object} Slot
 * @property {Attachment} attachment
 * @property {HTMLVideoElement} video
 * @property {number} frames
 * @property {number} timer of the stand-in for requestVideoFrameCallback
 *
 * @typedef {object} PictureEvents
 * @property {(attachment: Attachment, first: boolean) => void} frame
 * @property {() => void} blocked the browser wants a gesture before it plays
 * @property {(held: boolean) => void} held somebody paused the picture with the browser's own controls, or lets it go on
 */
import { el } from './dom.js';

const KEEP_SAMPLES = 900;
/** How often a picture is read for a stamp: while nothing says that it carries one; while it does. */
const LOOK_MS = 1000;
const READ_MS = 100;

export class Picture {
  element = el('div', { class: 'pictures' });
  /** @type {Slot | null} */
  #shown = null;
  /** @type {Slot | null} */
  #incoming = null;
  #last = el('canvas', { class: 'last', hidden: true });
  #events;
  /** @type {typeof import('./stamp.js') | null} */
  #stamps = null;
  /** @type {import('./stamp.js').StampReader | null} */
  #reader = null;
  #readAt = 0;
  #misses = 0;
  /** @type {Sample[]} */
  samples = [];
  /** Frames presented since the page was opened. */
  frames = 0;
  #sampling = /** @type {'off' | 'some' | 'all'} */ ('off');

  /** @param {PictureEvents} events */
  constructor(events) {
    this.#events = events;
    this.element.append(this.#last);
  }

  /** `off`, `some` for a panel, `all` for a measurement. */
  get sampling() {
    return this.#sampling;
  }

  set sampling(sampling) {
    this.#sampling = sampling;
    if (sampling === 'off' || this.#stamps) return;
    import('./stamp.js').then(
      (stamps) => {
        this.#stamps = stamps;
        this.#reader ??= new stamps.StampReader();
      },
      () => {},
    );
  }

  /** Ages of the pictures on the screen since `from`, ms. @param {number} from page's ms @param {number} offset of the agent's clock */
  ages(from, offset) {
    const { stampAge } = this.#stamps ?? {};
    return stampAge ? this.samples.filter((each) => each.at >= from).map((each) => stampAge(each.display + offset, each.time)) : [];
  }

  /** The video on show, or about to be. */
  get video() {
    return this.#shown?.video ?? this.#incoming?.video ?? null;
  }

  /** @param {Attachment} attachment */
  attach(attachment) {
    this.#remove(this.#incoming);
    const video = el('video', { class: 'incoming', 'aria-hidden': 'true', disableremoteplayback: true });
    video.muted = video.autoplay = video.playsInline = true;
    video.controls = false;
    /** @type {Slot} */
    const slot = { attachment, video, frames: 0, timer: 0 };
    this.#incoming = slot;
    // While the page is hidden, the browser itself may pause it.
    const held = (/** @type {boolean} */ is) => slot === this.#shown && !video.ended && !document.hidden && this.#events.held(is);
    video.addEventListener('pause', () => held(true));
    video.addEventListener('play', () => held(false));
    this.element.append(video);
    video.srcObject = attachment.stream;
    this.#follow(slot);
    this.#play(slot);
  }

  /** @param {number} peer */
  detach(peer) {
    if (this.#incoming?.attachment.peer === peer) {
      this.#remove(this.#incoming);
      this.#incoming = null;
    }
    if (this.#shown?.attachment.peer === peer) {
      this.keepLast();
      this.#last.hidden = !this.#last.width;
      this.#remove(this.#shown);
      this.#shown = null;
    }
  }

  /** Forget the camera that was shown. */
  clear() {
    this.#remove(this.#incoming);
    this.#remove(this.#shown);
    this.#incoming = this.#shown = null;
    this.#last.width = this.#last.height = 0;
    this.#last.hidden = true;
    this.samples = [];
    this.#misses = 0;
  }

  /** Play after a gesture, where the browser wanted one. */
  play() {
    for (const slot of [this.#shown, this.#incoming]) if (slot) this.#play(slot);
  }

  /** Draw the picture on show to the canvas, in case its video goes dark. */
  keepLast() {
    const video = this.#shown?.video;
    if (!video?.videoWidth) return;
    try {
      const scale = Math.min(1, 1280 / video.videoWidth);
      this.#last.width = Math.round(video.videoWidth * scale);
      this.#last.height = Math.round(video.videoHeight * scale);
      this.#last.getContext('2d')?.drawImage(video, 0, 0, this.#last.width, this.#last.height);
    } catch {
      // A picture that cannot be copied is not kept; the video itself is still there.
    }
  }

  /** What a snapshot is taken of, null while there is no picture. */
  get source() {
    const video = this.#shown?.video;
    return video?.videoWidth ? video : this.#last.width ? this.#last : null;
  }

  /** @param {Slot} slot */
  #play(slot) {
    slot.video.play().catch((error) => {
      if (error?.name === 'NotAllowedError') this.#events.blocked();
    });
  }

  /** @param {Slot} slot */
  #follow(slot) {
    const { video } = slot;
    if ('requestVideoFrameCallback' in video) {
      const next = (/** @type {number} */ at, /** @type {VideoFrameCallbackMetadata} */ data) => {
        if (slot !== this.#shown && slot !== this.#incoming) return;
        video.requestVideoFrameCallback(next);
        this.#presented(slot, at, data.expectedDisplayTime);
      };
      video.requestVideoFrameCallback(next);
      return;
    }
    let count = 0;
    slot.timer = window.setInterval(() => {
      const total = /** @type {HTMLVideoElement} */ (video).getVideoPlaybackQuality().totalVideoFrames;
      if (total > count) this.#presented(slot, performance.now(), NaN);
      count = total;
    }, 100);
  }

  /** @param {Slot} slot @param {number} at @param {number} display */
  #presented(slot, at, display) {
    slot.frames += 1;
    this.frames += 1;
    const first = slot.frames === 1;
    if (first && slot === this.#incoming) {
      this.#remove(this.#shown);
      this.#shown = slot;
      this.#incoming = null;
      slot.video.classList.remove('incoming');
      this.#last.hidden = true;
    }
    this.#sample(slot, at, display);
    this.#events.frame(slot.attachment, first);
  }

  /** @param {Slot} slot @param {number} at @param {number} display */
  #sample(slot, at, display) {
    if (this.sampling === 'off' || !this.#reader || !Number.isFinite(display)) return;
    const every = this.#misses > 2 ? LOOK_MS : READ_MS;
    if (this.sampling === 'some' && at - this.#readAt < every) return;
    this.#readAt = at;
    /** @type {Stamp | null} */
    let stamp = null;
    try {
      stamp = this.#reader.read(slot.video);
    } catch {
      // A frame that went away between the callback and the reading.
    }
    if (!stamp) {
      this.#misses += 1;
      return;
    }
    this.#misses = 0;
    this.samples.push({ ...stamp, display, at, width: slot.video.videoWidth });
    if (this.samples.length > KEEP_SAMPLES) this.samples.splice(0, this.samples.length - KEEP_SAMPLES);
  }

  /** @param {Slot | null} slot */
  #remove(slot) {
    if (!slot) return;
    clearInterval(slot.timer);
    slot.video.srcObject = null;
    slot.video.remove();
  }
}
