"""What the doctor says of a camera with several streams, of which the best gives nothing."""

from __future__ import annotations

import json

import pytest

from edgeagent.config import CameraConfig, Drivers, load
from edgeagent.doctor import cameras
from edgeagent.doctor.agent import RunningAgent
from edgeagent.doctor.report import Level
from edgeagent.drivers import Camera, CameraIO, Capabilities, EncodedFrame, StreamInfo, registry
from edgeagent.drivers.conformance import Recording
from edgeagent.media.encoder import make_encoder
from edgeagent.model import CameraPhase
from edgeagent_devices.rtsp import RtspCamera

H265 = "The camera sends H.265, which browsers do not show."
URLS = {"url": "rtsp://10.0.0.9/1", "sub": "rtsp://10.0.0.9/2"}


def configured(options: dict[str, str]) -> CameraConfig:
    return load(json.dumps({"cameras": {"gate": options}}), {}, Drivers.installed()).cameras["gate"]


def frame(layer: str) -> EncodedFrame:
    return EncodedFrame(b"\0\0\0\1\x65", True, 0, 0.0, layer)


@pytest.mark.parametrize(
    ("fault", "layers", "said", "advised"),
    [
        (H265, ["sub"], f"gate: its main stream gives no picture, only sub does. {H265}", ""),
        ("", ["sub"], "gate: its main stream gives no picture, only sub does.", "keyframe (I-frame)"),
        (H265, [], f"gate: {H265}", ""),
        ("", [], "gate: no picture came within 5 s.", "cable and power"),
    ],
)
def test_it_says_why_the_best_stream_gives_nothing(fault: str, layers: list[str], said: str, advised: str) -> None:
    recording = Recording(make_encoder, frames=[frame(layer) for layer in layers])
    recording.infos["main"] = StreamInfo(absent=bool(fault), fault=fault)
    camera = RtspCamera("gate", RtspCamera.Options.model_validate(URLS))
    (finding,) = cameras._judge("camera.gate", "gate", camera, recording)
    assert (finding.level, finding.text) == (Level.PROBLEM, said)
    assert advised in finding.advice and bool(advised) == bool(finding.advice)


def test_the_best_stream_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Camera):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(layers=("main", "sub"))

        def run(self, io: CameraIO) -> None:
            io.emit(frame("sub"))
            if not io.stopping.wait(0.2):
                io.emit(frame("main"))
                io.stopping.wait()

    settings = configured({"driver": "test-pattern"})
    monkeypatch.setattr(registry, "load_camera", lambda *_: Late)
    monkeypatch.setattr(cameras, "FIRST_PICTURE_S", 60.0)
    monkeypatch.setattr(cameras, "STOP_S", 60.0)
    monkeypatch.setattr(cameras, "LOOK_S", 0.0)
    (finding,) = cameras._open("gate", settings, None, [])
    assert finding.level is Level.OK, finding.text


@pytest.mark.parametrize(("layers", "level"), [(("main", "sub"), Level.OK), (("sub",), Level.PROBLEM)])
def test_a_running_agent_without_the_best_stream_is_a_problem(
    layers: tuple[str, ...], level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"name": "gate", "phase": CameraPhase.LIVE.value, "layers": [{"name": layer} for layer in layers]}

    def get(self: RunningAgent, path: str, timeout_s: float) -> tuple[int, bytes]:
        return 200, json.dumps({"cameras": [state]}).encode()

    monkeypatch.setattr(RunningAgent, "get", get)
    agent = RunningAgent("http://127.0.0.1", None, {"device": "pi", "cameras": {"gate": {}}})
    finding = cameras._ask_agent("gate", configured({"driver": "rtsp", **URLS}), None, agent)
    assert finding.level is level, finding.text
    assert ("its main stream gives no picture" in finding.text) == (level is Level.PROBLEM)
