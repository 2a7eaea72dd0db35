"""The cameras, each opened for a moment by its own driver or asked for through the running agent, and the encoder."""

from __future__ import annotations

__all__ = ["look_at_cameras"]

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent.config import CameraConfig, Config
from edgeagent.doctor.agent import LOG, RunningAgent
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.doctor.work import System, bounded, off_loop
from edgeagent.drivers import conformance, registry
from edgeagent.drivers.camera import Camera, VideoEncoder
from edgeagent.errors import DeviceFault
from edgeagent.media.encoder import make_encoder
from edgeagent.media.encoder_speed import frames_per_second
from edgeagent.model import EncodedFrame, StreamInfo

_log = logging.getLogger(__name__)
FIRST_PICTURE_S, LOOK_S, STOP_S = 5.0, 1.2, 2.5
_CAMERA_S, _ENCODER_S = 9.0, 4.0
_DISCOVER_S = 2.0
_SLOW = 0.8  # of the nominal rate
_TIGHT = 0.75  # of what the encoder can do
_HARDWARE = "dev/video11"  # the H.264 encoder of a Pi up to 4
_PROFILES = {"42": "Baseline", "4d": "Main", "58": "Extended", "64": "High"}


@dataclass(frozen=True, slots=True)
class Job:
    """What a camera asks of an encoder."""

    width: int
    height: int
    fps: float
    bitrate: int


_USUAL = Job(1280, 720, 30.0, 3_000_000)


async def look_at_cameras(config: Config | None, agent: RunningAgent | None, system: System) -> list[Finding]:
    """All cameras side by side, and then what the encoder can do for them, since it wants the processor for itself."""
    jobs: list[Job] = []
    looks = [
        bounded(
            f"camera.{name}",
            f"camera {name}",
            _CAMERA_S,
            _look(name, settings, config.drivers_dir if config else None, agent, jobs),
        )
        for name, settings in (config.cameras if config else {}).items()
    ]
    found = [finding for findings in await asyncio.gather(*looks) for finding in findings]
    if config is None:
        found += await bounded("camera", "the cameras of this machine", _CAMERA_S, off_loop(_discover))
    shared = bool(config) and agent is None
    return found + await bounded("encoder", "the encoder", _ENCODER_S, off_loop(lambda: _encoder(jobs, system, known=shared)))


async def _look(
    name: str, settings: CameraConfig, folder: Path | None, agent: RunningAgent | None, jobs: list[Job]
) -> list[Finding]:
    if agent is not None:
        return [await off_loop(lambda: _ask_agent(name, settings, folder, agent))]
    return await off_loop(lambda: _open(name, settings, folder, jobs))


def _ask_agent(name: str, settings: CameraConfig, folder: Path | None, agent: RunningAgent) -> Finding:
    """A camera that the running agent holds: it is asked for a picture, so that nobody fights for the device."""
    check = f"camera.{name}"
    if agent.mute:
        return notice(check, f"{name}: not looked at, since {agent.mute}.", agent.advice)
    if name not in agent.health.get("cameras", {}):
        text = f"{name}: the running agent does not have this camera."
        return (notice if agent.hidden else problem)(check, text, agent.advice)
    try:
        best = registry.load_camera(settings.driver, folder)(name, settings.options).capabilities.layers[0]
        status, body = agent.get(f"/{name}.jpg", FIRST_PICTURE_S + LOOK_S)
        _, hello = agent.get("/api/hello", 1.5)
        states = {state["name"]: state for state in json.loads(hello)["cameras"]}
        state = states[name]
        if status != 200:
            text = json.loads(body).get("detail") or "It gives no picture."
            return problem(check, f"{name}: {text}", phase=state["phase"])
        size = f"{state['width']}x{state['height']}" if state.get("width") else "a size that it does not tell"
        layers = [layer["name"] for layer in state["layers"]]
        rate = f" at {state['fps']:g} frames/s" if state.get("fps") else ""
        facts = {key: state.get(key, 0) for key in ("phase", "width", "height", "fps", "viewers")}
    except DeviceFault as fault:
        return problem(check, f"{name}: {fault.message}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{name}: the running agent gave no picture in time."
        return problem(check, text, LOG, error=type(error).__name__)
    if best not in layers:
        text = f"{name}: its {best} stream gives no picture, only {' and '.join(layers)} does."
        return problem(check, text, "The log says why: `journalctl -u edgeagent -p warning`.", **facts)
    return ok(check, f"{name}: gives a picture through the running agent, {size}{rate}.", **facts)


def _open(name: str, settings: CameraConfig, folder: Path | None, jobs: list[Job]) -> list[Finding]:
    """Run a camera for a moment."""
    check = f"camera.{name}"
    try:
        camera = registry.load_camera(settings.driver, folder)(name, settings.options)
    except DeviceFault as fault:
        return [problem(check, f"{name}: {fault.message}")]
    best = camera.capabilities.layers[0]
    wanted: list[Job] = []

    def encoder(
        *,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        layer: str = "main",
        options: dict[str, str] | None = None,
        max_bitrate: int | None = None,
    ) -> VideoEncoder:
        wanted.append(Job(width, height, fps, bitrate))
        return make_encoder(
            width=width, height=height, fps=fps, bitrate=bitrate, layer=layer, options=options, max_bitrate=max_bitrate
        )

    def script(recording: conformance.Recording) -> None:
        if recording.wait_for(1, FIRST_PICTURE_S, best):
            recording.wait_for(1_000_000, LOOK_S)

    recording = conformance.record(camera, encoder, script, stop_s=STOP_S)
    jobs += wanted
    return [_without(camera, finding) for finding in _judge(check, name, camera, recording)]


def _judge(check: str, name: str, camera: Camera, recording: conformance.Recording) -> list[Finding]:
    layer = camera.capabilities.layers[0]
    frames = [frame for frame in recording.frames if frame.layer == layer]
    info = recording.infos.get(layer, StreamInfo())
    if recording.error is not None:
        return [_failed(check, name, recording.error)]
    if not frames:
        others = sorted({frame.layer for frame in recording.frames})
        return [_missing(check, name, layer, info.fault, others)]
    fps, bps = _rates(frames)
    facts: dict[str, Any] = {"width": info.width, "height": info.height, "fps": fps, "bps": bps, "profile": info.profile_level_id}
    size = f"{info.width}x{info.height}" if info.width else "a size that it does not tell"
    text = f"{name}: {size} at {fps:.0f} frames/s, {_codec(info)}, {bps / 1e6:.1f} Mbit/s."
    others = [f"{other} {of.width}x{of.height}" for other, of in recording.infos.items() if other != layer and of.width]
    if others:
        text += f" Also in smaller: {', '.join(others)}."
    if recording.hangs:
        advice = "If pictures stall later, restart the camera; please report it with the camera's model."
        return [notice(check, f"{text} It did not stop when asked.", advice, **facts)]
    if info.fps and fps < _SLOW * info.fps:
        text = f"{text} It promises {info.fps:g} frames/s."
        advice = "In the dark many cameras slow down. Else choose a smaller size, or check cable, Wi-Fi and power."
        return [notice(check, text, advice, **facts)]
    return [ok(check, text, **facts)]


def _failed(check: str, name: str, error: BaseException) -> Finding:
    if isinstance(error, DeviceFault):
        return problem(check, f"{name}: {error.message}")
    return problem(check, f"{name}: its driver failed ({type(error).__name__}: {error}).", "Please report it.")


def _missing(check: str, name: str, layer: str, fault: str, others: list[str]) -> Finding:
    """No picture of the best layer; `fault` says why where the driver does, `others` are the layers that gave some."""
    if not others:
        text = fault or f"no picture came within {FIRST_PICTURE_S:g} s."
        return problem(check, f"{name}: {text}", "" if fault else "Check its cable and power, and that no other program uses it.")
    text = f"{name}: its {layer} stream gives no picture, only {' and '.join(others)} does. {fault}".rstrip()
    advice = "" if fault else "Look in the camera whether that stream is on, and has a keyframe (I-frame) each second or two."
    return problem(check, text, advice)


def _rates(frames: list[EncodedFrame]) -> tuple[float, int]:
    """Frames a second and bit/s, by the camera's own time stamps."""
    ticks = frames[-1].timestamp - frames[0].timestamp
    if ticks <= 0:
        return 0.0, 0
    # What came with the last time stamp lasts beyond it.
    size = sum(len(frame.data) for frame in frames[:-1])
    return round((len(frames) - 1) * 90_000 / ticks, 1), round(size * 8 * 90_000 / ticks)


def _codec(info: StreamInfo) -> str:
    profile = info.profile_level_id[:2].lower()
    return f"H.264 {_PROFILES[profile]}" if profile in _PROFILES else "H.264"


def _without(camera: Camera, finding: Finding) -> Finding:
    text = finding.text
    for secret in sorted(filter(None, camera.secrets()), key=len, reverse=True):
        text = text.replace(secret, "***")
    return Finding(finding.check, finding.level, text, finding.advice, finding.facts)


def _discover() -> list[Finding]:
    """Cameras that this machine has, for an owner who has not written a configuration yet; the network is not asked."""
    titles = []
    for name, driver in registry.cameras().items():
        try:
            if not driver.networked:
                titles += [found.title for found in driver.discover(_DISCOVER_S)]
        except Exception:  # of a driver that nobody asked for, in whatever way it fails
            _log.debug("driver %s cannot look for cameras", name, exc_info=True)
    if not titles:
        return []
    text = f"There {'are cameras' if len(titles) > 1 else 'is a camera'}: {'; '.join(titles)}."
    return [notice("camera", text, "`edgeagent discover cameras` prints what to write into a configuration.", found=titles)]


def _encoder(jobs: list[Job], system: System, *, known: bool) -> list[Finding]:
    """The encoder that this board has, and how much more than the cameras need it can do.

    Args:
        jobs: What the cameras asked of it.
        system: The machine.
        known: Whether `jobs` are those of all cameras.
    """
    biggest = max(jobs, key=lambda job: job.width * job.height * job.fps, default=_USUAL)
    size = f"{biggest.width}x{biggest.height}"
    try:
        encoder = make_encoder(width=biggest.width, height=biggest.height, fps=biggest.fps, bitrate=biggest.bitrate)
        kind = "hardware" if "x264" not in type(encoder).__name__.lower() else "software"
        try:
            speed = frames_per_second(encoder, biggest.width, biggest.height, biggest.fps)
        finally:
            encoder.close()
    except DeviceFault as fault:
        return [problem("encoder", fault.message)]
    there = (system.root / _HARDWARE).exists()
    how = "The board's own encoder does" if kind == "hardware" else "The processor (x264) encodes"
    text = f"{how} {size} at up to {speed:.0f} frames/s"
    facts: dict[str, Any] = {
        "kind": kind,
        "width": biggest.width,
        "height": biggest.height,
        "fps": round(speed, 1),
        "needed_fps": 0,
    }
    if kind == "software" and there:
        advice = "It may be in use by another program, or this user may not open it: `sudo usermod -aG video $USER`."
        return [notice("encoder", f"{text}; the board's own encoder (/{_HARDWARE}) could not be used.", advice, **facts)]
    if not known:
        return [ok("encoder", f"{text}.", **facts)]
    if not jobs:
        return [ok("encoder", f"{text}; none of the cameras needs it.", **facts)]
    # What all of them ask, in pictures of the biggest size.
    needed = sum(job.width * job.height * job.fps for job in jobs) / (biggest.width * biggest.height)
    facts["needed_fps"] = round(needed, 1)
    text = f"{text}; the cameras need {needed:.0f}."
    if biggest.fps > speed:
        advice = "Choose a smaller size or fewer frames a second for the cameras, or end other programs on this board."
        return [problem("encoder", f"{text} The picture will stutter.", advice, **facts)]
    if needed > _TIGHT * speed:
        return [notice("encoder", f"{text} There is little room left.", "Choose smaller pictures if they stutter.", **facts)]
    return [ok("encoder", text, **facts)]
