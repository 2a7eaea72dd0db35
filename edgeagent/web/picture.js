// @ts-check
/**
 * The moving picture of one camera: a `<video>` for each peer that brings it, one of them shown. A new one is shown when its
 * first frame is there; the last frame of one that ends stays on a canvas.
 *
 * @typedef {import('./agent.js').Attachment} Attachment
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

export class Picture {
  element = el('div', { class: 'pictures' });
  /** @type {Slot | null} */
  #shown = null;
  /** @type {Slot | null} */
  #incoming = null;
  #last = el('canvas', { class: 'last', hidden: true });
  #events;
  /** Once its frames are to be read for their stamps. @type {import('./stamp.js').Samples | null} */
  samples = null;
  /** Frames presented since the page was opened. */
  frames = 0;
  /** The frame on the screen, and since when. @type {import('./control.js').Shown | null} */
  on = null;
  #sampling = /** @type {'off' | 'some' | 'all'} */ ('off');

  /** @param {PictureEvents} events */
  constructor(events) {
    this.#events = events;
    this.element.append(this.#last);
  }

  /** `off`, `some` for a panel, `all` for a measurement, which lasts. @param {'off' | 'some' | 'all'} sampling */
  set sampling(sampling) {
    if (this.#sampling !== 'all') this.#sampling = sampling;
    if (sampling === 'off' || this.samples) return;
    import('./stamp.js').then(
      ({ Samples }) => (this.samples ??= new Samples()),
      () => {},
    );
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
    this.#incoming = this.#shown = this.on = null;
    this.#last.width = this.#last.height = 0;
    this.#last.hidden = true;
    this.samples?.clear();
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
        this.#presented(slot, at, data.expectedDisplayTime, data.rtpTimestamp);
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

  /** @param {Slot} slot @param {number} at @param {number} display @param {number} [rtp] */
  #presented(slot, at, display, rtp) {
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
    if (slot === this.#shown) this.on = { rtp: rtp ?? null, mid: slot.attachment.mid, at };
    if (this.#sampling !== 'off' && Number.isFinite(display)) this.samples?.take(slot.video, at, display, this.#sampling === 'all');
    this.#events.frame(slot.attachment, first);
  }

  /** @param {Slot | null} slot */
  #remove(slot) {
    if (!slot) return;
    clearInterval(slot.timer);
    slot.video.srcObject = null;
    slot.video.remove();
  }
}
