// @ts-check
/** Styles of what drives and switches. Sizes follow a 4 px grid; red is for stop and danger only. */
import { sheet } from './dom.js';

export const drive = sheet(`
:host {
  --_accent: var(--edge-accent-on-video, #58b4ff); --_accent-ink: #04233d; --_stop: #d21f17; --_glass: rgb(12 14 17 / .74);
  --_l: env(safe-area-inset-left); --_r: env(safe-area-inset-right); --_t: env(safe-area-inset-top); --_b: env(safe-area-inset-bottom);
  --_ring: 136px; --_sheet: min(376px, 45%);
  position: fixed; inset: 0; z-index: 5; display: block; overflow: hidden; color: #fff; touch-action: none; overscroll-behavior: none;
  user-select: none; -webkit-user-select: none; -webkit-touch-callout: none;
}
:host([blind]) { background: #0c0e11; } :host([blind]) .figures :is(.glass, .loss) { display: none !important; }
.frame { position: absolute; inset: 0; pointer-events: none; box-shadow: inset 0 0 0 0 var(--_stop); transition: box-shadow .15s; }
:host([tone="stopped"]) .frame { box-shadow: inset 0 0 0 6px var(--_stop); }
.veil { position: absolute; inset: auto 0 0; height: 45%; pointer-events: none; background: linear-gradient(transparent, rgb(0 0 0 / .5)); }

.top {
  position: absolute; inset: 0 0 auto; display: flex; align-items: center; gap: 4px; z-index: 3; pointer-events: none;
  padding: calc(4px + var(--_t)) calc(8px + var(--_r)) 32px calc(8px + var(--_l)); background: linear-gradient(rgb(0 0 0 / .74), rgb(0 0 0 / .5) 50%, rgb(0 0 0 / .16) 80%, transparent);
}
.top > * { pointer-events: auto; }
h2 { font-size: 16px; line-height: 24px; font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; pointer-events: none; }
.pill {
  display: flex; align-items: center; gap: 2px; height: 44px; margin-left: 12px; padding: 0 6px 0 14px; border: solid transparent; border-width: 6px 0; border-radius: 22px / 28px; white-space: nowrap;
  background: rgb(255 255 255 / .2) padding-box; color: #fff; font-weight: 600;
}
.pill svg { width: 18px; height: 18px; }
:host([tone="armed"]) .pill { background-color: var(--_accent); color: var(--_accent-ink); }
.spring { flex: 1; }
.figures { position: relative; flex: none; display: flex; align-items: center; gap: 4px 20px; min-height: 44px; margin: 0 8px; padding: 0 4px; }
.more { position: absolute; inset: 0; padding: 0; border: 0; border-radius: 8px; background: transparent; }
.figure { display: grid; } :host(:not([exact])) .figures :is(.rtt, .loss), :host([exact]) .figures .link { display: none; }
.figures small { font-size: 11px; line-height: 14px; color: #d5dae0; white-space: nowrap; }
.figures b { font-size: 14px; line-height: 18px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; min-width: 44px; }
.figures .bad b { color: #ffd479; }
.figures .battery b { display: flex; align-items: center; gap: 6px; }
.cell { flex: none; width: 22px; height: 11px; border: 1.5px solid currentColor; border-radius: 3px; padding: 1px; position: relative; }
.cell::after { content: ""; position: absolute; right: -4px; top: 2px; width: 2px; height: 4px; border-radius: 0 1px 1px 0; background: currentColor; }
.cell i { display: block; height: 100%; background: currentColor; border-radius: 1px; }
.select { height: 44px; max-width: 160px; padding: 0 8px; border: 0; border-radius: 8px; background: transparent; color: #fff; font: inherit; font-weight: 600; }
.select option { color: #14181d; background: #fff; }

.zone { position: absolute; top: 64px; bottom: 0; width: 50%; z-index: 1; touch-action: none; display: none; }
.zone.left { left: 0; } .zone.right { right: 0; }
:host([mine]) .zone.on { display: block; }
.stick {
  position: absolute; width: var(--_ring); height: var(--_ring); bottom: calc(24px + var(--_b)); border-radius: 50%; pointer-events: none;
  border: 2px solid rgb(255 255 255 / .5); background: radial-gradient(rgb(12 14 17 / .42), rgb(12 14 17 / .26)); opacity: .8; transition: opacity .15s;
}
.left .stick { left: calc(24px + var(--_l)); } .right .stick { right: calc(24px + var(--_r)); }
.stick svg { position: absolute; inset: 0; width: 100%; height: 100%; color: rgb(255 255 255 / .85); }
.knob {
  position: absolute; left: 50%; top: 50%; width: 44%; height: 44%; margin: -22% 0 0 -22%; border-radius: 50%; background: rgb(255 255 255 / .92);
  box-shadow: 0 2px 8px rgb(0 0 0 / .4); will-change: transform;
}
.stick.held { opacity: 1; border-color: var(--_accent); }
.stick.held .knob { background: var(--_accent); }
.stick.held svg { opacity: .35; }
.glyph { position: absolute; left: 0; right: 0; bottom: calc(100% + 6px); text-align: center; font-size: 12px; line-height: 16px; font-weight: 600; text-shadow: 0 1px 2px rgb(0 0 0 / .8); }
.stick.held .glyph { opacity: 0; }

.keys { position: absolute; left: calc(24px + var(--_l)); bottom: calc(24px + var(--_b)); display: none; grid-template-columns: repeat(3, 44px); gap: 4px; pointer-events: none; z-index: 1; }
.keys b { display: grid; place-items: center; height: 44px; border-radius: 8px; background: var(--_glass); box-shadow: inset 0 0 0 1px rgb(255 255 255 / .22); font-size: 15px; font-weight: 600; }
.keys b:first-child { grid-column: 2; } .keys b:nth-child(2) { grid-column: 1; }
.keys b.down { background: var(--_accent); color: var(--_accent-ink); box-shadow: none; }
.keys small { grid-column: 1 / 4; justify-self: center; padding: 2px 8px; border-radius: 10px; background: var(--_glass); font-size: 12px; line-height: 16px; white-space: nowrap; }
@media (hover: hover) and (pointer: fine) {
  :host([mine]) .keys { display: grid; }
  .stick { opacity: 0; } .stick.held { opacity: 1; }
}

.middle { position: absolute; left: 50%; bottom: calc(16px + var(--_b)); transform: translateX(-50%); display: grid; justify-items: center; gap: 8px; width: min(420px, 100% - 32px); z-index: 2; pointer-events: none; }
.dock {
  pointer-events: auto; display: grid; justify-items: center; text-align: center; padding: 14px 24px 16px; border-radius: 16px; background: var(--_glass);
  box-shadow: 0 0 0 1px rgb(255 255 255 / .14), 0 8px 32px rgb(0 0 0 / .3); max-width: 100%;
}
.dock h3 { font-size: 18px; line-height: 24px; font-weight: 600; }
.dock p { color: #d5dae0; text-wrap: balance; }
.dock .acts { display: flex; flex-wrap: wrap; justify-content: center; gap: 8px; margin-top: 12px; }
.dock .acts:empty { display: none; }
.dock .primary { min-height: 48px; padding: 0 28px; border-radius: 24px; font-size: 16px; }
.dock .plain { min-height: 48px; padding: 0 20px; border-radius: 24px; }
.dock[data-tone="hold"] { background: #fff; color: #14181d; box-shadow: 0 8px 32px rgb(0 0 0 / .4); padding: 10px 24px 12px; }
.dock[data-tone="hold"] p { color: #454e59; }
.dock[data-tone="stopped"] { box-shadow: 0 0 0 2px var(--_stop), 0 8px 32px rgb(0 0 0 / .4); background: rgb(30 8 6 / .9); }
.dock[data-tone="armed"] { padding: 8px 8px 8px 20px; display: flex; gap: 16px; align-items: center; border-radius: 28px; }
.dock[data-tone="armed"] h3 { display: none; } .dock[data-tone="armed"] .acts { margin: 0; }
.hinder { text-align: center; padding: 4px 14px; border-radius: 14px; background: #ffd479; color: #2b1c00; font-weight: 600; }
.spinner { width: 18px; height: 18px; margin-bottom: 8px; border-radius: 50%; border: 2px solid rgb(255 255 255 / .3); border-top-color: #fff; animation: turn .9s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }

.levers {
  pointer-events: auto; display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 0 20px; width: 100%; max-height: max(120px, 34dvh); overflow: auto;
  overscroll-behavior: contain; padding: 6px 16px 2px; border-radius: 16px; background: var(--_glass); box-shadow: 0 0 0 1px rgb(255 255 255 / .14); touch-action: pan-y;
}
.levers label { display: grid; grid-template-columns: 1fr auto; gap: 0 12px; font-size: 13px; line-height: 18px; font-weight: 600; min-width: 0; }
.levers span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .levers b { font-variant-numeric: tabular-nums; }
.levers input { grid-column: 1 / 3; height: 36px; touch-action: none; }
:host(:not([tone="armed"])) .levers { opacity: .6; }
/* What nothing comes of makes room. */
:host([tone="stopped"]) :is(.gauge, .keys, .stick) { display: none; }
.gauge { position: relative; width: 236px; height: 92px; filter: drop-shadow(0 1px 3px rgb(0 0 0 / .7)); }
.gauge svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.gauge .way { fill: none; stroke: rgb(255 255 255 / .38); stroke-width: 4; stroke-linecap: round; }
.gauge .turned { fill: none; stroke: var(--_accent); stroke-width: 4; stroke-linecap: round; }
.gauge .mark { fill: #fff; }
.gauge .push { fill: rgb(255 255 255 / .28); } .gauge .pushed { fill: var(--_accent); }
.speed { position: absolute; left: 0; right: 0; bottom: 0; text-align: center; }
.speed b { font-size: 44px; line-height: 48px; font-weight: 650; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.speed span { margin-left: 6px; font-size: 14px; color: #eef1f4; }

.stop {
  position: absolute; z-index: 6; right: calc(20px + var(--_r)); top: calc(64px + var(--_t)); width: 88px; height: 88px; padding: 0; border: 0; border-radius: 50%;
  background: var(--_stop); color: #fff; font-size: 19px; font-weight: 800; letter-spacing: .04em; touch-action: none;
  box-shadow: 0 0 0 3px #fff, 0 4px 20px rgb(0 0 0 / .5); transition: transform .08s;
}
@media (hover: hover) { .stop:hover { background: #e5382f; } }
.stop:active { transform: scale(.94); background: #a9140d; }
.stop:focus-visible { outline: 3px solid var(--_accent); outline-offset: 5px; }
.stop small { display: none; font-size: 12px; font-weight: 600; letter-spacing: 0; }
@media (hover: hover) and (pointer: fine) { .stop small { display: block; margin-top: -2px; } }
:host([tone="stopped"]) .stop { background: #5d0f0b; box-shadow: 0 0 0 3px rgb(255 255 255 / .5); }

.sheet {
  position: absolute; z-index: 5; left: 0; top: 0; bottom: 0; width: var(--_sheet); display: flex; flex-direction: column; background: var(--_surface); color: var(--_text);
  box-shadow: 0 0 32px rgb(0 0 0 / .5); touch-action: pan-y; padding-left: var(--_l);
}
.sheet { --_accent: var(--edge-accent, #58b4ff); --_accent-ink: var(--edge-accent-ink, #04233d); }
.sheet > header { display: flex; align-items: center; gap: 4px; padding: 8px 8px 4px 20px; flex: none; }
.sheet > header h2 { flex: 1; pointer-events: auto; }
.sheet .body { flex: 1; min-height: 0; overflow: auto; overscroll-behavior: contain; padding: 0 20px calc(20px + var(--_b)); }
.toast {
  position: absolute; left: 50%; top: calc(72px + var(--_t)); transform: translateX(-50%); max-width: calc(100% - 240px); padding: 10px 16px; border-radius: 8px; background: rgb(12 14 17 / .94);
  pointer-events: none; opacity: 0; transition: opacity .2s; z-index: 7; text-align: center;
}
.toast.on { opacity: 1; }

/* A sheet takes its part of the window, and what drives has the other. */
@media (orientation: landscape) {
  :host([beside]) .top, :host([beside]) .zone.left { left: var(--_sheet); } :host([beside]) .zone { width: calc((100% - var(--_sheet)) / 2); }
  :host([beside]) .keys { left: calc(var(--_sheet) + 24px); }
  :host([beside]) .middle { left: calc(50% + var(--_sheet) / 2); width: min(420px, 100% - var(--_sheet) - 32px); }
}
@media (max-width: 760px) and (orientation: landscape) {
  .figures { gap: 4px 12px; margin: 0; } .figures .loss { display: none; }
  .middle { width: min(420px, 100% - 248px); }
  :host([beside]) { --_ring: 120px; } :host([beside]) :is(.figures, .full, .gauge) { display: none; }
}
@media (max-width: 1000px) and (orientation: landscape) { :host([beside]) .top > :is(h2, .select), :host([beside]) :is(.gauge svg, .figures :is(.link, .glass, .rtt, .loss)) { display: none; } }
@media (max-width: 359px) { .full { display: none; } }
@media (max-width: 1000px) { h2:has(~ .select:not([hidden])) { display: none; } }
@media (max-height: 340px) { .glyph { display: none; } }
@media (max-height: 420px) { .levers:not([hidden]) ~ .gauge { display: none; } .middle { bottom: calc(12px + var(--_b)); } .dock { padding: 10px 20px 12px; } .dock .acts { margin-top: 8px; } }
@media (min-width: 1000px) and (min-height: 600px) {
  .stop { width: 104px; height: 104px; font-size: 22px; top: auto; bottom: calc(32px + var(--_b)); right: calc(32px + var(--_r)); }
  .middle { bottom: calc(28px + var(--_b)); }
  .keys { bottom: calc(32px + var(--_b)); } :host(:not([beside])) .keys { left: calc(32px + var(--_l)); }
}
/* Held upright: the picture above, all that is touched below it. */
@media (orientation: portrait) {
  :host { --_split: min(62dvh, 56px + 75vw); --_ring: min(132px, 50vw - 64px); --_low: calc(52px + var(--_ring)); background: linear-gradient(transparent var(--_split), #0c0e11 var(--_split)); }
  .veil { display: none; }
  .figures { position: absolute; left: 16px; right: 16px; top: calc(var(--_split) + 10px); margin: 0; justify-content: space-between; gap: 8px; }
  .zone { top: calc(var(--_split) + 64px); }
  .stick { bottom: calc(48px + var(--_b)); } .left .stick { left: 12px; } .right .stick { right: 12px; }
  .stop { left: 50%; right: auto; top: auto; bottom: calc(4px + var(--_ring) / 2 + var(--_b)); width: 88px; height: 88px; margin-left: -44px; }
  .middle { bottom: calc(20px + var(--_low) + var(--_b)); }
  .levers { max-height: 116px; }
  /* Below the picture, and above what drives. */
  .sheet { width: 100%; bottom: calc(var(--_low) + var(--_b)); top: auto; height: max(220px, 100dvh - var(--_split) - var(--_low) - var(--_b)); border-radius: 16px 16px 0 0; }
  .toast { max-width: calc(100% - 32px); }
}
@media (orientation: portrait) and (max-height: 640px) {
  .figures { top: var(--_split); } :host(:not([tone="armed"])) .figures, .top:has(~ .middle .hinder:not([hidden])) .figures { display: none; }
  .gauge { height: 48px; } .gauge svg { display: none; }
}
@media (orientation: portrait) and (max-height: 800px) { .levers:not([hidden]) ~ .gauge, .top:has(~ .middle .levers:not([hidden])) .figures { display: none; } }
@media (max-width: 760px) { .pill:not([hidden]) { margin-left: 0; } h2:has(~ .pill:not([hidden])) { display: none; } }
@media (orientation: portrait) and (min-width: 700px) { :host { --_split: 62dvh; background: none; } }
@media (prefers-reduced-motion: reduce) { * { transition-duration: 0s !important; } .spinner { animation-duration: 4s; } }
`);

/** What stands in a sheet: forms, lists, keys. */
export const forms = sheet(`
form { display: grid; gap: 12px; }
form.token { padding-top: 4px; }
form.token p { color: var(--_muted); }
label { font-weight: 600; }
form.token label { display: grid; gap: 4px; }
input[type="text"], input[type="password"], input[type="number"], select {
  width: 100%; height: 44px; padding: 0 12px; border: 1px solid var(--_muted); border-radius: 8px; background: var(--_raised); color: var(--_text); font: inherit; font-size: 16px;
}
.problem { color: var(--_danger) !important; } .problem:empty { display: none; }
form.token .primary { justify-self: start; }
input[type="range"] { width: 100%; height: 44px; margin: 0; accent-color: var(--_accent); touch-action: pan-y; }
input[role="switch"] { flex: none; appearance: none; width: 52px; height: 32px; margin: 0; border-radius: 16px; background: var(--_muted); position: relative; transition: background .15s; cursor: pointer; }
input[role="switch"]::before { content: ""; position: absolute; inset: 4px auto 4px 4px; width: 24px; border-radius: 50%; background: #fff; transition: translate .15s; }
input[role="switch"]::after { content: ""; position: absolute; inset: -6px 0; }
input[role="switch"]:checked { background: var(--_accent); }
input[role="switch"]:checked::before { translate: 20px; }
input[role="switch"]:disabled { opacity: .5; cursor: default; }
.danger { color: var(--_danger); }
button.danger { min-height: 44px; padding: 0 16px; border: 0; border-radius: 8px; background: #c4241b; color: #fff; font-weight: 600; }
@media (prefers-reduced-motion: reduce) { input, input::before { transition: none !important; } }
`);

export const pads = sheet(`
h3 { margin: 20px 0 8px; font-size: 12px; line-height: 16px; font-weight: 600; color: var(--_muted); }
h3:first-child { margin-top: 4px; }
dl > div { display: flex; justify-content: space-between; align-items: center; gap: 16px; min-height: 36px; }
dt { color: var(--_muted); }
kbd { display: inline-block; min-width: 28px; padding: 2px 8px; margin-left: 4px; border: 1px solid var(--_line); border-radius: 6px; text-align: center; background: var(--_raised); font: inherit; font-weight: 600; white-space: nowrap; }
.touch p { margin-top: 4px; color: var(--_muted); }
@media (hover: hover) and (pointer: fine) { .touch { display: none; } .touch + h3 { margin-top: 4px; } }
.pad { display: grid; gap: 12px; padding: 16px; border-radius: 12px; background: var(--_raised); }
.pad b { overflow-wrap: anywhere; }
.pad p { color: var(--_muted); }
.pad .row { display: flex; flex-wrap: wrap; gap: 8px; }
.bars { display: grid; grid-template-columns: auto 1fr; gap: 4px 12px; align-items: center; font-size: 13px; color: var(--_muted); }
.bars i { display: block; height: 6px; border-radius: 3px; background: var(--_line); position: relative; overflow: hidden; }
.bars i::after { content: ""; position: absolute; inset: 0; left: calc(50% + min(var(--v) * 50%, 0%)); width: calc(max(var(--v), -1 * var(--v)) * 50%); background: var(--_accent); }
.ask { font-size: 18px; line-height: 24px; font-weight: 600; color: var(--_text) !important; }
.secure { margin-top: 12px; color: var(--_muted); }
.secure code { color: var(--_text); font: 600 0.92em ui-monospace, monospace; overflow-wrap: anywhere; }
.secure code:not(:last-child) { white-space: nowrap; }
`);

export const devices = sheet(`
:host { display: block; color: var(--_text); }
.note { color: var(--_muted); padding: 8px 0 16px; }
.note .plain { margin-top: 12px; }
.alarms { display: grid; gap: 8px; margin-bottom: 12px; } .alarms:empty { display: none; }
.alarm { display: flex; gap: 12px; align-items: flex-start; padding: 10px 14px; border-radius: 12px; background: var(--_raised); font-weight: 600; }
.alarm::before { content: "!"; flex: none; display: grid; place-items: center; width: 20px; height: 20px; border-radius: 50%; background: #ffd479; color: #2b1c00; font-weight: 800; font-size: 13px; }
.alarm.danger { color: inherit; } .alarm span { flex: 1; } .alarm:has(button) { align-items: center; } .alarm.danger::before { background: #d21f17; color: #fff; }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); align-items: start; }
.card { border-radius: 16px; background: var(--_raised); padding: 14px 16px 16px; min-width: 0; }
.card > header { display: flex; align-items: center; gap: 12px; min-height: 32px; }
.card h3 { flex: 1; min-width: 0; font-size: 15px; line-height: 20px; font-weight: 600; overflow: hidden; text-overflow: ellipsis; }
.sign { flex: none; display: grid; place-items: center; width: 32px; height: 32px; border-radius: 10px; background: color-mix(in srgb, var(--_text) 9%, transparent); color: var(--_muted); transition: background .15s, color .15s; }
.sign svg { width: 20px; height: 20px; }
.card.lit .sign { background: var(--_accent); color: var(--_accent-ink); }
.phase { color: var(--_muted); font-size: 13px; line-height: 18px; margin-top: 4px; } .phase.lost { color: var(--_danger); } .phase:empty { display: none; }
.card.away .tiles { opacity: .5; }
.tiles { display: grid; gap: 12px 16px; grid-template-columns: repeat(auto-fill, minmax(116px, 1fr)); margin-top: 10px; } .tiles:empty { display: none; }
edge-sensor { display: block; min-width: 0; }
.commands { display: grid; gap: 8px; margin-top: 12px; } .commands:empty { display: none; }
.commands > .row { display: flex; flex-wrap: wrap; gap: 8px; } .commands > .row:empty { display: none; }
.command { display: grid; gap: 10px; padding-top: 12px; border-top: 1px solid var(--_line); }
h4 { margin: 0; font-size: 14px; line-height: 20px; font-weight: 600; }
.command label { font-weight: 400; }
.field { display: grid; gap: 4px; }
.field.line { display: flex; align-items: center; justify-content: space-between; gap: 12px; min-height: 44px; }
.field .caption { display: flex; justify-content: space-between; gap: 12px; }
.field output { font-variant-numeric: tabular-nums; color: var(--_muted); }
.field small { color: var(--_muted); font-weight: 400; font-size: 13px; line-height: 18px; }
.said { font-size: 13px; line-height: 18px; color: var(--_muted); overflow-wrap: anywhere; } .said:empty { display: none; } .said.bad { color: var(--_danger); }
.sure { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; } .sure span { flex: 1 1 120px; font-weight: 600; }
.commands .plain, .commands .primary { border-radius: 10px; }
`);

export const sensor = sheet(`
:host { display: block; }
.name { font-size: 13px; line-height: 18px; color: var(--_muted); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.value { display: flex; align-items: baseline; gap: 4px; min-height: 28px; }
.value b { font-size: 22px; line-height: 28px; font-weight: 600; font-variant-numeric: tabular-nums; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; letter-spacing: -.01em; }
.value span { color: var(--_muted); }
:host(.text) .value b { font-size: 15px; }
svg { display: block; width: 100%; height: 28px; margin-top: 2px; overflow: visible; }
path { fill: none; stroke: var(--_accent); stroke-width: 1.75; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
:host(.warn) .value b { color: var(--_danger); }
:host(.warn) .name::before { content: "! "; color: var(--_danger); font-weight: 800; }
:host(.warn) path { stroke: var(--_danger); }
.flag { display: flex; align-items: center; gap: 8px; } .flag i { width: 10px; height: 10px; border-radius: 50%; background: var(--_line); } .flag.on i { background: var(--_accent); }
`);
