// @ts-check
// A plain WHEP viewer that is the same for every server: `#url=…`, then a click. It leaves the marks of our own page, and
// every frame in `frames`: when it is shown and, where the picture carries a stamp, when it was taken.
import { StampReader } from './stamp.js';

const video = /** @type {HTMLVideoElement} */ (document.querySelector('video'));
const button = /** @type {HTMLButtonElement} */ (document.querySelector('button'));
const url = new URLSearchParams(location.hash.slice(1)).get('url') ?? '';
const reader = new StampReader();
/** @type {{at: number, display: number, time: number | null}[]} */
const frames = [];
/** @type {RTCPeerConnection | null} */
let pc = null;

button.addEventListener('click', () => void play());

async function play() {
  performance.mark('edge:start');
  pc = new RTCPeerConnection();
  pc.onconnectionstatechange = () => pc?.connectionState === 'connected' && performance.mark('edge:connected');
  const { receiver } = pc.addTransceiver('video', { direction: 'recvonly' });
  Object.assign(receiver, { jitterBufferTarget: 0 });
  video.srcObject = new MediaStream([receiver.track]);
  video.requestVideoFrameCallback(presented);
  await pc.setLocalDescription();
  performance.mark('edge:offer');
  const response = await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription?.sdp });
  const sdp = await response.text();
  performance.mark('edge:answer');
  if (!response.ok) throw new Error(`${response.status} ${sdp}`);
  await pc.setRemoteDescription({ type: 'answer', sdp });
}

/** @type {VideoFrameRequestCallback} */
function presented(at, data) {
  video.requestVideoFrameCallback(presented);
  if (!frames.length) performance.mark('edge:first-frame');
  frames.push({ at, display: data.expectedDisplayTime, time: reader.read(video)?.time ?? null });
}

Object.assign(globalThis, { shown: frames, connection: () => pc });
