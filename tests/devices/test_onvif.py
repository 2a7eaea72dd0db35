"""ONVIF against a camera of our own that speaks real SOAP over real sockets."""

from __future__ import annotations

import asyncio
import sys

import pytest

from edgeagent.drivers import DeviceFault, Found
from edgeagent_devices import _onvif
from edgeagent_devices.rtsp import RtspCamera
from tests.support.components import require
from tests.support.onvif_camera import PASSWORD, USER, OnvifCamera, Stream, _fault

require("module:onvif")
TIMEOUT_S = 10.0


def test_a_camera_tells_its_streams_to_its_user() -> None:
    with OnvifCamera() as camera:
        report = _onvif.ask(camera.address, USER, PASSWORD, TIMEOUT_S)
        assert "GetStreamUri" in camera.asked
    assert (report.maker, report.model) == ("Acme", "Eye 3")
    assert [(one.codec, one.width, one.fps) for one in report.profiles] == [
        ("H264", 1920, 25),
        ("H264", 640, 25),
        ("JPEG", 320, 25),
    ]
    assert [one.url for one in report.profiles] == [
        "rtsp://127.0.0.1:554/main?channel=1&subtype=0",
        "rtsp://127.0.0.1/sub",
        "rtsp://127.0.0.1/jpeg",
    ], "without the user and password that a camera put there"


@pytest.mark.parametrize(("user", "password"), [("", ""), (USER, "guess"), ("guest", PASSWORD)])
def test_a_camera_tells_nothing_to_others(user: str, password: str) -> None:
    with OnvifCamera() as camera, pytest.raises(_onvif.Refused, match="does not tell its streams to this user"):
        _onvif.ask(camera.address, user, password, TIMEOUT_S)


def test_a_camera_without_password_tells_everybody() -> None:
    with OnvifCamera(open_to_all=True) as camera:
        assert len(_onvif.ask(camera.address, "", "", TIMEOUT_S).profiles) == 3


def test_what_is_no_onvif_camera_is_said() -> None:
    with OnvifCamera() as camera:
        gone = camera.address
    with pytest.raises(DeviceFault, match="does not answer as ONVIF cameras do"):
        _onvif.ask(gone, USER, PASSWORD, TIMEOUT_S)


def test_whatever_a_library_raises_about_a_device_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Exception):
        """As one of the HTTP client's, of a header that is none."""

    async def answers(*_: object) -> _onvif.Report:
        raise Odd

    monkeypatch.setattr(_onvif, "_ask", answers)
    with pytest.raises(DeviceFault, match=r"does not answer as ONVIF cameras do \(Odd\)"):
        _onvif.ask("http://10.0.0.9/onvif", USER, PASSWORD, TIMEOUT_S)


class Incomplete(OnvifCamera):
    """A camera that has no address for some of its profiles."""

    def __init__(self, *broken: str) -> None:
        super().__init__(streams=[Stream(token, f"rtsp://10.0.0.9/{token}") for token in "ab"])
        self.broken = broken

    def answer(self, body: bytes) -> tuple[int, str]:
        if b"GetStreamUri" in body and any(f">{token}<".encode() in body for token in self.broken):
            return 500, _fault("").replace("NotAuthorized", "IncompleteConfiguration").replace("not authorized", "at fault")
        return super().answer(body)


def test_a_profile_without_an_address_costs_no_other() -> None:
    with Incomplete("a") as camera:
        assert [one.url for one in _onvif.ask(camera.address, USER, PASSWORD, TIMEOUT_S).profiles] == ["rtsp://10.0.0.9/b"]
    with Incomplete("a", "b") as camera, pytest.raises(DeviceFault, match="refuses to name its streams"):
        _onvif.ask(camera.address, USER, PASSWORD, TIMEOUT_S)


async def test_what_is_known_when_time_is_over_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def put(self: _onvif._Questions) -> None:
        self.report.profiles.extend(known)
        await asyncio.Event().wait()

    monkeypatch.setattr(_onvif._Questions, "put", put)
    known = [_onvif.Profile("lens", "rtsp://10.0.0.9/a")]
    assert (await _onvif._ask("http://10.0.0.9/", USER, PASSWORD, TIMEOUT_S)).profiles == known
    known = []
    with pytest.raises(TimeoutError):
        await _onvif._ask("http://10.0.0.9/", USER, PASSWORD, TIMEOUT_S)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsdiscovery", None)
    monkeypatch.setitem(sys.modules, "onvif", None)
    for asking in (lambda: _onvif.search(0.1), lambda: _onvif.ask("http://127.0.0.1/", "", "", 0.1)):
        with pytest.raises(DeviceFault, match=r"two more libraries: .* pip install WSDiscovery onvif-zeep-async") as fault:
            asking()
        assert not fault.value.retry


def test_what_is_found_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with OnvifCamera(open_to_all=True) as one, OnvifCamera() as other:
        devices = [
            _onvif.Device(one.address),
            _onvif.Device(other.address, "Front Door", "Eye3"),
            _onvif.Device("http://127.0.0.1:9/"),
        ]
        monkeypatch.setattr(_onvif, "search", lambda timeout_s: devices)
        known, locked, silent = RtspCamera.discover(TIMEOUT_S)
    assert "url" in known.options
    assert "username" not in known.options
    assert (locked.title, locked.ask, locked.options) == ("Front Door Eye3 (127.0.0.1)", other.address, {})
    assert "does not answer as ONVIF cameras do" in silent.remarks[0]


def suggested(*streams: Stream) -> list[Found]:
    with OnvifCamera(streams=list(streams)) as camera:
        return list(RtspCamera.ask(Found("Camera (127.0.0.1)", ask=camera.address), USER, PASSWORD, TIMEOUT_S))


def test_main_and_sub_are_the_largest_and_the_smallest_of_one_codec() -> None:
    (found,) = suggested(
        Stream("a", "rtsp://10.0.0.9/a", width=640, height=360),
        Stream("b", "rtsp://10.0.0.9/b", width=2560, height=1440),
        Stream("c", "rtsp://10.0.0.9/c", codec="JPEG", width=320, height=240),
        Stream("d", "rtsp://10.0.0.9/d", width=1280, height=720),
    )
    assert found.title == "Acme Eye 3 (127.0.0.1)"
    assert found.options == {"url": "rtsp://10.0.0.9/b", "sub": "rtsp://10.0.0.9/a", "username": USER}
    RtspCamera.Options.model_validate(found.options)
    assert found.ask == ""


def test_each_lens_is_a_camera() -> None:
    one, two = suggested(Stream("a", "rtsp://10.0.0.9/a", source="left"), Stream("b", "rtsp://10.0.0.9/b", source="right"))
    assert (one.options["url"], two.options["url"]) == ("rtsp://10.0.0.9/a", "rtsp://10.0.0.9/b")
    assert "input 2" in two.title
    assert "sub" not in one.options


def test_a_codec_that_browsers_do_not_show_is_transcoded_and_said() -> None:
    (found,) = suggested(Stream("a", "rtsp://10.0.0.9/a", codec="MPEG4"))
    assert found.options["transcode"] is True
    assert "Browsers do not show this codec" in found.remarks[-1]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://0.0.0.0:8554/x?a=1&b=2", "rtsp://cam:8554/x?a=1&b=2"),
        ("rtsp://127.0.0.1/x", "rtsp://cam/x"),
        ("rtsp://u:p@[fe80::9]/x", "rtsp://[fe80::9]/x"),
        (" rtsp://10.0.0.9/x\n", "rtsp://10.0.0.9/x"),
        ("http://10.0.0.9/x", ""),
        ("rtsp://10.0.0.9:99999/x", ""),
        ("", ""),
    ],
)
def test_addresses_of_streams_are_made_usable(url: str, expected: str) -> None:
    assert _onvif._clean(url, "cam") == expected


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["http://[fe80::1]/onvif", "http://10.0.0.9/onvif"], "http://10.0.0.9/onvif"),
        (["ftp://10.0.0.9/", "http://10.0.0.9/onvif"], "http://10.0.0.9/onvif"),
        ([], None),
        (["http:///onvif"], None),
        (["http://[10.0.0.9]/onvif"], None),
        (["http://[::1/onvif", "http://10.0.0.9/onvif"], "http://10.0.0.9/onvif"),
    ],
)
def test_addresses_of_devices_are_chosen(addresses: list[str], expected: str | None) -> None:
    found = _onvif._device(addresses, ["onvif://www.onvif.org/name/Front%20Door", "other://x"])
    assert (found.address if found else None) == expected
    assert found is None or found.name == "Front Door"
