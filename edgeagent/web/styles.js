// @ts-check
/** Styles of the elements' shadow trees. Sizes follow a 4 px grid. */
import { sheet } from './dom.js';

/** Shared by all: tokens (each can be set from outside), buttons, forms. */
export const base = sheet(`
:host {
  --_accent: var(--edge-accent, #58b4ff);
  --_accent-ink: var(--edge-accent-ink, #04233d);
  --_danger: var(--edge-danger, #ff8177);
  --_surface: var(--edge-surface, #15181d);
  --_raised: var(--edge-raised, #20252c);
  --_text: var(--edge-text, #f0f3f6);
  --_muted: var(--edge-muted, #a7b0bc);
  --_line: var(--edge-line, #323943);
  --_font: var(--edge-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  font: 400 14px/20px var(--_font);
  color: var(--_text);
  -webkit-tap-highlight-color: transparent;
}
@media (prefers-color-scheme: light) {
  :host {
    --_surface: var(--edge-surface, #ffffff);
    --_raised: var(--edge-raised, #eef1f4);
    --_text: var(--edge-text, #14181d);
    --_muted: var(--edge-muted, #545e6b);
    --_line: var(--edge-line, #d5dae1);
    --_danger: var(--edge-danger, #b3261e);
  }
}
*, *::before, *::after { box-sizing: border-box; }
[hidden] { display: none !important; }
h2, h3, p, dl, dd { margin: 0; }
button, input { font: inherit; color: inherit; }
button { cursor: pointer; touch-action: manipulation; }
:focus { outline: none; }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.icon {
  display: inline-grid; place-items: center; flex: none; width: 44px; height: 44px; padding: 0;
  border: 0; border-radius: 8px; background: transparent; color: inherit;
}
.icon:focus-visible { outline-offset: -3px; }
@media (hover: hover) { .icon:hover { background: color-mix(in srgb, currentColor 14%, transparent); } }
.icon:active { background: color-mix(in srgb, currentColor 22%, transparent); }
.icon[aria-pressed="true"] { color: var(--_accent); }
.icon:disabled { opacity: .4; background: none; cursor: default; }
.plain {
  min-height: 44px; padding: 0 16px; border: 1px solid color-mix(in srgb, currentColor 40%, transparent);
  border-radius: 8px; background: transparent; font-weight: 600;
}
@media (hover: hover) { .plain:hover { background: color-mix(in srgb, currentColor 12%, transparent); } }
.primary {
  min-height: 44px; padding: 0 20px; border: 0; border-radius: 8px;
  background: var(--_accent); color: var(--_accent-ink); font-weight: 600;
}
.primary:disabled { opacity: .6; cursor: default; }
.sr {
  position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
`);

export const camera = sheet(`
:host {
  display: block; position: relative; overflow: hidden; container-type: size;
  aspect-ratio: 16 / 9; background: #000; border-radius: var(--edge-radius, 0);
  --_accent: var(--edge-accent-on-video, #58b4ff);
  --_accent-ink: #04233d;
  color: #fff; user-select: none; -webkit-user-select: none;
}
:host(:fullscreen) { width: 100%; height: 100%; border-radius: 0; }
.stage { position: absolute; inset: 0; overflow: hidden; }
.pictures { position: absolute; inset: 0; transition: filter .25s; }
.pictures.dim { filter: brightness(.4) saturate(.7); }
video, canvas.last {
  position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; background: transparent; display: block;
}
:host([fit="cover"]) video, :host([fit="cover"]) canvas.last { object-fit: cover; }
video.incoming { opacity: 0; }

.hit { position: absolute; inset: 0; width: 100%; height: 100%; padding: 0; border: 0; background: transparent; border-radius: inherit; }
:host([steps]) .hit { touch-action: pan-y pinch-zoom; }
.hit:focus-visible { outline: 3px solid var(--_accent); outline-offset: -3px; }

.message {
  position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 4px;
  padding: 16px 24px; text-align: center; pointer-events: none; text-shadow: 0 1px 2px rgb(0 0 0 / .8);
  opacity: 0; visibility: hidden; transition: opacity .15s, visibility 0s .15s;
}
.message.on { opacity: 1; visibility: visible; transition: opacity .2s .3s, visibility 0s; }
.message.on.now { transition-delay: 0s; }
.message .text { font-size: 16px; line-height: 24px; font-weight: 600; text-wrap: balance; }
.message .hint { color: #d5dae0; text-wrap: balance; }
.message .age { color: #d5dae0; font-variant-numeric: tabular-nums; }
.message .line { display: flex; align-items: center; justify-content: center; gap: 12px; }
.message .plain { margin-top: 12px; pointer-events: auto; background: rgb(0 0 0 / .5); }
.spinner {
  flex: none; width: 18px; height: 18px; border-radius: 50%; border: 2px solid rgb(255 255 255 / .3); border-top-color: #fff;
  animation: turn .9s linear infinite;
}
@keyframes turn { to { transform: rotate(1turn); } }

.bar { position: absolute; left: 0; right: 0; display: flex; align-items: center; gap: 4px; pointer-events: none; transition: opacity .2s, visibility 0s; }
.bar > * { pointer-events: auto; }
.top { top: 0; padding: 8px 8px 24px; background: linear-gradient(rgb(0 0 0 / .68), rgb(0 0 0 / .4) 60%, transparent); }
.bottom { bottom: 0; padding: 32px 8px 8px; justify-content: flex-end; background: linear-gradient(transparent, rgb(0 0 0 / .45) 45%, rgb(0 0 0 / .68)); }
:host([edges]) .top { padding-top: calc(8px + env(safe-area-inset-top)); padding-left: calc(8px + env(safe-area-inset-left)); padding-right: calc(8px + env(safe-area-inset-right)); }
:host([edges]) .bottom { padding-bottom: calc(8px + env(safe-area-inset-bottom)); padding-left: calc(8px + env(safe-area-inset-left)); padding-right: calc(8px + env(safe-area-inset-right)); }
.title { display: flex; align-items: baseline; gap: 10px; min-width: 0; padding: 0 8px; pointer-events: none; min-height: 44px; align-items: center; }
.title h2 { font-size: 16px; line-height: 24px; font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.dot { flex: none; width: 8px; height: 8px; border-radius: 50%; background: #8b95a1; box-shadow: 0 0 0 2px rgb(0 0 0 / .35); }
.dot.live { background: var(--_accent); }
.dot.lost { background: #ff8177; }
.live-text { color: #d5dae0; white-space: nowrap; }
.spring { flex: 1; }
.step { position: absolute; top: 50%; margin-top: -28px; width: 44px; height: 56px; background: rgb(0 0 0 / .45); transition: opacity .2s, visibility 0s; }
.step.prev { left: 8px; } .step.next { right: 8px; }
@media (orientation: landscape) { .step.prev { left: calc(8px + env(safe-area-inset-left)); } .step.next { right: calc(8px + env(safe-area-inset-right)); } }
@media (hover: hover) { .step:hover { background: rgb(0 0 0 / .7); } }

/* Controls fade after three seconds without a touch. */
.idle .bar, .idle .step { opacity: 0; visibility: hidden; transition: opacity .3s, visibility 0s .3s; }
.idle .hit { cursor: none; }
.idle .hit:focus-visible { outline-color: transparent; }

/* A tile in a grid: its name; buttons where there is a mouse to hover. */
:host([compact]) .top { padding: 8px; background: none; }
:host([compact]) .title { min-height: 28px; padding: 0 10px; border-radius: 14px; background: rgb(0 0 0 / .7); max-width: calc(100% - 8px); gap: 8px; }
:host([compact]) .title h2 { font-size: 13px; line-height: 20px; }
:host([compact]) .live-text { font-size: 13px; }
:host([compact]) .bottom { opacity: 0; visibility: hidden; padding: 24px 4px 4px; }
@media (hover: hover) and (pointer: fine) {
  :host([compact]:hover) .bottom, :host([compact]:focus-within) .bottom { opacity: 1; visibility: visible; }
}
:host([compact]) .plain { z-index: 1; }

:host([bare]) :is(.bar, .step, .hit, edge-health, edge-quality, edge-details) { display: none; }

edge-details { position: absolute; top: 0; right: 0; bottom: 0; width: min(336px, 100%); z-index: 3; }
@container (min-width: 1000px) {
  .with-details .pictures, .with-details .message, .with-details .bar, .with-details .hit { right: 336px; width: auto; }
  :host .with-details .step.next { right: 344px; }
}
@container (max-width: 999px) { .with-details .bottom { visibility: hidden; } }
@container (max-width: 599px) {
  edge-details { top: auto; left: 0; width: 100%; height: 62%; }
  .with-details .pictures, .with-details .message { bottom: 62%; top: 52px; }
}
@container (max-height: 399px) {
  edge-details { top: 0; left: auto; width: min(336px, 100%); height: 100%; }
  .with-details .pictures, .with-details .message { bottom: 0; top: 0; }
}
@container (max-width: 340px) or (max-height: 200px) {
  .message { padding: 8px; gap: 0; } .message .text { font-size: 14px; line-height: 20px; } .message .hint { display: none; }
}
/* A phone held upright: the buttons move below the picture, in reach of the thumb, spread over the width. */
@container (max-width: 599px) and (min-height: 480px) {
  .bottom { justify-content: space-around; }
  .step { top: calc(8px + env(safe-area-inset-top)); margin: 0; height: 44px; background: none; }
  .step.next { right: 8px; } .step.prev { left: auto; right: 52px; }
  :host([steps]) .top { padding-right: 104px; }
  /* A wide picture in the upper third, near its name, and what is said over it. */
  :host([edges]) :is(video, canvas.last) { object-position: 50% 30%; }
  :host([edges]) .stage:not(.with-details) .message { bottom: calc(40cqh - 22.5cqw); }
}
@container (max-width: 479px) {
  :host(:not([compact])) .bottom { gap: 0; padding-left: 4px; padding-right: 4px; }
}
@container (max-width: 359px) { .live-text { display: none; } }

.toast {
  position: absolute; left: 50%; bottom: 72px; transform: translateX(-50%); padding: 10px 16px; border-radius: 8px;
  background: rgb(12 14 17 / .92); color: #fff; white-space: nowrap; pointer-events: none; opacity: 0; transition: opacity .2s; z-index: 4;
}
.toast.on { opacity: 1; }
.flash { position: absolute; inset: 0; background: #fff; opacity: 0; pointer-events: none; }
.flash.on { animation: flash .25s ease-out; }
@keyframes flash { from { opacity: .7; } to { opacity: 0; } }

edge-health { position: absolute; left: 8px; bottom: calc(var(--_up, 8px) + var(--_safe, 0px)); width: min(360px, 100% - 16px); z-index: 2; }
:host([edges]) { --_safe: env(safe-area-inset-bottom); }
:host([edges]) edge-health { left: calc(8px + env(safe-area-inset-left)); }
edge-quality { position: absolute; right: 8px; bottom: calc(60px + var(--_safe, 0px)); width: min(320px, 100% - 16px); max-height: calc(100% - 68px - var(--_safe, 0px)); z-index: 3; }
:host([edges]) edge-quality { right: calc(8px + env(safe-area-inset-right)); }
@container (max-width: 799px) { .stage { --_up: 64px; } }
@container (max-width: 599px) {
  .stage edge-health { width: calc(100% - 16px); }
  :host .stage edge-quality { right: 0; left: 0; bottom: 0; width: 100%; max-height: calc(100% - 8px); padding-bottom: var(--_safe, 0px); border-radius: 12px 12px 0 0; }
}
edge-signin { position: absolute; inset: 0; overflow: auto; background: var(--_surface); color: var(--_text); z-index: 3; }
@media (prefers-reduced-motion: reduce) {
  *, .message.on, .pictures { transition-duration: 0s !important; transition-delay: 0s !important; }
  .flash.on { animation: none; }
  .spinner { animation-duration: 4s; }
}
`);

/** What lies over a picture: details, quality. */
export const panel = sheet(`
:host { display: flex; flex-direction: column; background: var(--_surface); color: var(--_text); box-shadow: 0 0 24px rgb(0 0 0 / .45); text-shadow: none; user-select: text; -webkit-user-select: text; }
header { display: flex; align-items: center; gap: 4px; padding: 8px 8px 4px 20px; flex: none; }
header h2 { flex: 1; font-size: 16px; line-height: 24px; font-weight: 600; }
`);

export const details = sheet(`
.scroll { overflow: auto; overscroll-behavior: contain; padding: 0 20px calc(20px + env(safe-area-inset-bottom)); }
h3 { margin: 16px 0 4px; font-size: 12px; line-height: 16px; font-weight: 600; color: var(--_muted); }
h3:first-child { margin-top: 4px; }
dl > div { display: flex; justify-content: space-between; gap: 16px; min-height: 28px; align-items: center; border-bottom: 1px solid var(--_line); }
dl > div:last-child { border-bottom: 0; }
dt { color: var(--_muted); white-space: nowrap; }
dd { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.graph { display: block; width: 100%; height: 44px; margin: 8px 0 0; border-radius: 4px; background: var(--_raised); }
.graph path { fill: none; stroke: var(--_line-accent, #2f8fe0); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.scale { display: flex; justify-content: space-between; color: var(--_muted); font-size: 12px; line-height: 16px; margin-top: 4px; font-variant-numeric: tabular-nums; }
`);

export const signin = sheet(`
:host { display: grid; place-items: center; padding: 24px; color: var(--_text); background: var(--_surface); user-select: text; }
form { display: grid; gap: 12px; width: min(360px, 100%); }
h2 { font-size: 20px; line-height: 28px; font-weight: 600; }
h2, .host { overflow-wrap: anywhere; }
img { display: block; width: 48px; height: 48px; }
p { color: var(--_muted); }
.host { margin-top: -12px; }
label { display: grid; gap: 4px; font-weight: 600; }
label.check { display: flex; align-items: center; gap: 12px; min-height: 44px; font-weight: 400; cursor: pointer; }
input[type="text"], input[type="password"], input[type="url"] {
  height: 44px; width: 100%; padding: 0 12px; border: 1px solid var(--_muted); border-radius: 8px; background: var(--_raised); font-size: 16px;
}
input[type="checkbox"] { width: 20px; height: 20px; accent-color: var(--_accent); }
.problem { color: var(--_danger); min-height: 20px; }
.primary { justify-self: start; }
small { color: var(--_muted); font-weight: 400; font-size: 13px; }
`);

export const grid = sheet(`
:host { display: block; position: relative; overflow: hidden; --_gap: 4px; }
.cells { position: absolute; inset: 0; }
:host(.column) { overflow: visible; height: auto !important; }
:host(.column) .cells { position: static; display: grid; gap: var(--_gap); }
edge-camera { position: absolute; margin: 0; width: 0; height: 0; aspect-ratio: auto; }
:host(.column) edge-camera { position: relative; left: auto; top: auto; width: 100%; height: auto; }
:host(.single) { overflow: hidden; }
:host(.single) .cells { position: absolute; inset: 0; display: block; }
:host(.single) edge-camera { display: none; }
:host(.single) edge-camera.selected { display: block; position: absolute; inset: 0; width: 100%; height: 100%; }
@media (orientation: portrait) and (max-width: 699px) { :host(.single) edge-camera.selected[bare] { inset: 52px 0 auto; height: min(62dvh - 52px, 75vw + 4px); } }
.note { position: absolute; inset: 0; display: grid; place-items: center; padding: 24px; text-align: center; color: var(--_muted); }
.note .line { display: flex; gap: 12px; align-items: center; justify-content: center; font-size: 16px; font-weight: 600; color: var(--_text); }
.note p { margin-top: 4px; }
.note .primary { margin-top: 16px; }
.note > div { max-width: 420px; text-wrap: balance; }
edge-health { position: fixed; left: 50%; bottom: calc(12px + env(safe-area-inset-bottom)); width: min(360px, 100% - 16px); transform: translateX(-50%); z-index: 3; }
edge-health.closed { width: auto; }
.spinner { width: 18px; height: 18px; border-radius: 50%; border: 2px solid color-mix(in srgb, currentColor 30%, transparent); border-top-color: currentColor; animation: turn .9s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
edge-signin { position: absolute; inset: 0; overflow: auto; background: none; }
`);
