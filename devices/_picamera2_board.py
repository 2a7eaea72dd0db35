"""Finds, opens and closes the cameras of a board through picamera2, and says in plain sentences what is in the way.

libcamera knows one camera manager a process, and picamera2's own bookkeeping is not made for several threads: finding, opening and
closing take turns.
"""

from __future__ import annotations

__all__ = ["OpenCamera", "choose", "find", "load", "open_camera", "sentence_of", "short_id"]

import atexit
import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent.drivers import DeviceFault

if TYPE_CHECKING:
    from edgeagent_devices._picamera2_options import Picamera2Options

_log = logging.getLogger(__name__)

_TURN_S = 10.0  # how long another camera may take to be opened
_CLOSE_S = 4.0  # below the agent's own limit for a driver that is told to return
_TUNING_FOLDERS = [
    f"{base}/libcamera/ipa/rpi/{platform}" for base in ("/usr/local/share", "/usr/share") for platform in ("pisp", "vc4")
]

_TUNING = "LIBCAMERA_RPI_TUNING_FILE"
_set_by_us: dict[str, str] = {}  # of the environment

_USB = re.compile(r"-\d+(\.\d+)*:\d+\.\d+-[0-9a-f]{4}:[0-9a-f]{4}$")  # how libcamera ends the Id of a camera that uvcvideo has

_turn = threading.Lock()
_hung: list[
    tuple[str, threading.Thread, Any]
] = []  # cameras whose closing has not come to an end: Id, thread, what must not be collected

_INSTALL = (
    "type `sudo apt install python3-picamera2 --no-install-recommends` and make the agent's virtual environment with "
    "`--system-site-packages` (docs/hardware.md)."
)


def load() -> Any:
    """The module `picamera2`.

    Raises:
        DeviceFault: It is not there or does not work; never worth a retry.
    """
    # libcamera tells its life on stderr, one line for each step.
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        import picamera2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("libcamera", "picamera2"):
            raise DeviceFault(f"This Python has no {error.name}, which CSI cameras need: {_INSTALL}", retry=False) from error
        raise DeviceFault(f"picamera2 lacks the module {error.name}: {_INSTALL}", retry=False) from error
    except Exception as error:  # parts that do not fit together fail in any way
        hint = " Take numpy and simplejpeg both from apt or both from pip." if "numpy" in str(error) else ""
        raise DeviceFault(f"picamera2 cannot be loaded ({type(error).__name__}: {error}).{hint}", retry=False) from error
    if not _log.isEnabledFor(logging.DEBUG):
        logging.getLogger("picamera2").setLevel(logging.CRITICAL)  # what goes wrong comes back as an exception, and is told once
    return picamera2


@contextlib.contextmanager
def _our_turn() -> Iterator[None]:
    if not _turn.acquire(timeout=_TURN_S):
        raise DeviceFault("Another camera of this board hangs while it is opened or closed. Restart the agent.", restart=True)
    try:
        yield
    finally:
        _turn.release()


def find(picamera2: Any) -> list[dict[str, Any]]:
    """The board's own cameras in picamera2's order, with Id, Model, Num and more. Those on USB are for the driver `v4l2`."""
    return [info for info in picamera2.Picamera2.global_camera_info() if "/usb" not in info["Id"] and not _USB.search(info["Id"])]


def short_id(camera_id: str) -> str:
    """The end of an Id, which tells connector and sensor: i2c@88000/imx708@1a."""
    return "/".join(camera_id.split("/")[-2:])


def choose(found: Sequence[dict[str, Any]], wanted: int | str) -> str:
    """The Id of the camera that the owner means.

    Args:
        found: As `find` gives it.
        wanted: Its number there, or a part of its Id.

    Raises:
        DeviceFault: There is none, or more than one.
    """
    if not found:
        raise DeviceFault(
            "No CSI camera is found. Check that its cable sits straight and locked at both ends, and start the board again; "
            "`rpicam-hello --list-cameras` must show it."
        )
    listed = " and ".join(f"{short_id(info['Id'])} ({info.get('Model', 'unknown')})" for info in found)
    if isinstance(wanted, int):
        if wanted < len(found):
            return str(found[wanted]["Id"])
        raise DeviceFault(
            f"There is no CSI camera {wanted}; found, from 0 on: {listed}. Check its cable, or `camera` in the configuration."
        )
    exact = [info for info in found if info["Id"] == wanted]
    fitting = exact or [info for info in found if wanted in info["Id"]]
    if len(fitting) == 1:
        return str(fitting[0]["Id"])
    if fitting:
        raise DeviceFault(f"`camera: {wanted}` fits more than one CSI camera: {listed}. Write more of the Id.", retry=False)
    raise DeviceFault(
        f"No CSI camera has `{wanted}` in its Id; found: {listed}. Check its cable, or `camera` in the configuration."
    )


class OpenCamera:
    """A camera of picamera2 that is ours until `close`.

    Attributes:
        cam: The `Picamera2`.
        camera_id: libcamera's Id.
    """

    def __init__(self, cam: Any, camera_id: str) -> None:
        self.cam, self.camera_id = cam, camera_id

    def close(self, stop_encoders: Sequence[Callable[[], object]] = ()) -> None:
        """End everything in bounded time.

        Args:
            stop_encoders: Called one after the other once no more pictures come.

        Raises:
            DeviceFault: It hangs, as a loose cable can make it, even inside the kernel; until it returns the camera is lost to us.
        """
        closer = threading.Thread(target=self._close, args=(stop_encoders,), name="edgeagent-csi-close", daemon=True)
        closer.start()
        closer.join(_CLOSE_S)
        if closer.is_alive():
            atexit.unregister(self.cam.close)  # or the agent would hang at its end, too
            _hung.append((self.camera_id, closer, self.cam))
            raise DeviceFault(_HANGS, restart=True)

    def _close(self, stop_encoders: Sequence[Callable[[], object]]) -> None:
        """First picamera2's event loop: ended this way, it need not answer, as for `Picamera2.stop()` it must."""
        cam = self.cam
        cam.cancel_all_and_flush()
        steps: list[Callable[[], object]] = [cam.stop_preview] if cam._preview is not None else []
        for step in (*steps, *stop_encoders):
            self._try(step)
        with _turn:
            self._try(cam.close)

    @staticmethod
    def _try(step: Callable[[], object]) -> None:
        try:
            step()
        except Exception:  # the next step is due all the more
            _log.debug("closing a camera: %s", step, exc_info=True)


_HANGS = "The camera does not let itself be closed; its cable may be loose. Check the cable, and restart the board if this stays."


def open_camera(picamera2: Any, options: Picamera2Options, wanted: int | str, say: Callable[[str], None]) -> OpenCamera:
    """Open a camera by its Id.

    Args:
        picamera2: The module.
        options: `tuning_file` and `hdr` count before a camera is opened.
        wanted: As for `choose`.
        say: Takes sentences for the owner.

    Raises:
        DeviceFault: There is no such camera, it is in use, or it does not start.
    """
    _hung[:] = [entry for entry in _hung if entry[1].is_alive()]
    if any(hung_id == wanted for hung_id, _, _ in _hung):
        raise DeviceFault(_HANGS, restart=True)
    with _our_turn():
        tuning = _tuning(picamera2.Picamera2, options.tuning_file, say)
        try:
            camera_id = choose(find(picamera2), wanted)
            if options.hdr in ("off", "auto", "sensor"):
                _sensor_hdr(picamera2, camera_id, options.hdr, say)
            # picamera2 takes numbers only: look it up by the Id, at once, and see that it is the right one.
            every = [info["Id"] for info in picamera2.Picamera2.global_camera_info()]
            cam = _constructed(picamera2.Picamera2, every.index(camera_id), tuning)
        except DeviceFault:
            raise
        except Exception as error:
            raise DeviceFault(sentence_of(error)) from error
        opened = OpenCamera(cam, camera_id)
        if cam.camera.id != camera_id:
            threading.Thread(target=opened._close, args=((),), daemon=True).start()
            raise DeviceFault("The cameras of the board changed places while one was opened.")
        return opened


def _constructed(picamera2_class: Any, index: int, tuning: str | None) -> Any:
    """A `Picamera2`. Where its constructor fails, it leaves descriptors open, which would end an agent that tries for weeks."""
    cam = picamera2_class.__new__(picamera2_class)
    try:
        cam.__init__(index, tuning=tuning)
    except BaseException:
        with contextlib.suppress(Exception):
            if cam.is_open:
                cam.camera.release()
                cam.is_open = False
        with contextlib.suppress(Exception):
            cam.notifymeread.close()
            os.close(cam.notifyme_w)
        raise
    return cam


def sentence_of(error: BaseException) -> str:
    """What to tell the owner about an exception of picamera2 or libcamera."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(texts) < 8:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    whole = " ".join(texts).lower()
    if "busy" in whole:
        return (
            "The camera is in use by another program. End it (rpicam-vid, motion, another agent …), or give `camera` of the "
            "configuration another one."
        )
    if "cannot allocate memory" in whole or "failed to allocate" in whole:
        return "The board has too little memory for pictures of this size: choose a smaller `size`, or `lores: false`."
    if "permission denied" in whole or "not permitted" in whole:
        return (
            "The agent may not use the camera: add its user to the group video (`sudo usermod -aG video <user>`), then log in anew."
        )
    return f"The camera does not start ({texts[-1] or type(error).__name__})."


def _tuning(picamera2_class: Any, name: str | None, say: Callable[[str], None]) -> str | None:
    """The path of the tuning file, made known to libcamera, which looks for it only when it is started."""
    manager = picamera2_class._cm
    if name is None:
        if not manager.cameras and _TUNING in _set_by_us:  # what another camera wished is over
            os.environ.pop(_TUNING, None)
            _set_by_us.clear()
            manager._cms = None
        return None
    candidates = [Path(name), *(Path(folder) / name for folder in _TUNING_FOLDERS)]
    path = next((str(candidate) for candidate in candidates if candidate.is_absolute() and candidate.is_file()), None)
    if path is None:
        raise DeviceFault(f"There is no tuning file {name} on this board; check `tuning_file` in the configuration.", retry=False)
    if os.environ.get(_TUNING) != path:
        if manager.cameras:
            say(f"`tuning_file: {name}` is not used while another camera runs: give it to all cameras of the board, or to none.")
            return None
        os.environ[_TUNING] = _set_by_us[_TUNING] = path
        manager._cms = None
    return path


def _sensor_hdr(picamera2: Any, camera_id: str, wish: str, say: Callable[[str], None]) -> None:
    """Switch the HDR mode of a Camera Module 3; no other sensor has one."""
    info = next(info for info in find(picamera2) if info["Id"] == camera_id)
    if not str(info.get("Model", "")).startswith("imx708"):
        if wish == "sensor":
            say(f"`hdr: sensor` is left out: the sensor {info.get('Model', '')} has no such mode.")
        return
    try:
        from picamera2.devices.imx708 import IMX708

        with IMX708(camera_num=info["Num"]) as sensor:
            sensor.set_sensor_hdr_mode(wish != "off")
    except Exception as error:
        say(f"The sensor's HDR mode cannot be set ({error}).")
