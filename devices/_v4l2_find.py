"""Finds USB cameras and resolves the names that owners write: a camera is known by its link below /dev/v4l, never by its number."""

from __future__ import annotations

__all__ = ["UsbCamera", "UsbCameras", "look", "resolve"]

import errno
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeagent.drivers import DeviceFault, v4l2

_log = logging.getLogger(__name__)

_NOT_CAMERAS = {"bcm2835-codec", "bcm2835-isp", "pispbe", "rp1-cfe", "unicam", "rpi-hevc-dec", "rpivid"}
"""Kernel drivers of a Raspberry Pi's own parts; its CSI cameras belong to the driver `picamera2`."""
NO_PERMISSION = "The agent may not open the camera; add its user to the group video (sudo usermod -aG video USER)."


@dataclass(frozen=True, slots=True)
class UsbCamera:
    """One camera.

    Attributes:
        card: Its model, as it says itself.
        bus: Where it is plugged in, as the kernel says.
        names: Its stable names, best first: links in by-id, then in by-path. None without udev.
        nodes: Paths of its nodes that deliver pictures, `/dev/videoN`.
        shared: Links in by-id that may be its own or those of a camera like it; they are not among `names`.
    """

    card: str
    bus: str
    names: tuple[str, ...]
    nodes: tuple[str, ...]
    shared: tuple[str, ...] = ()

    @property
    def stable_name(self) -> str:
        """What to write in the configuration."""
        return self.names[0] if self.names else self.nodes[0]


@dataclass(slots=True)
class UsbCameras:
    """What a look round brought.

    Attributes:
        cameras: In the order of their nodes.
        others: Nodes that are no cameras, with the reason as a sentence.
    """

    cameras: list[UsbCamera] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)


def look(root: Path = Path("/")) -> UsbCameras:
    """Look for cameras; opens each video device for a moment and changes nothing.

    Args:
        root: Where `dev` lies.
    """
    result = UsbCameras()
    links = _links(root)
    groups: dict[tuple[str, str], list[tuple[str, v4l2.Capability]]] = {}
    interface: dict[str, str] = {}  # the last one of each bus
    for path in sorted((root / "dev").glob("video*"), key=_number):
        try:
            capability = _ask(str(path))
        except OSError as error:
            result.others[str(path)] = (
                NO_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else f"{path.name} cannot be opened ({error.strerror})."
            )
            continue
        needed = v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_STREAMING
        if capability.driver in _NOT_CAMERAS or capability.flags & needed != needed or capability.flags & v4l2.CAP_VIDEO_M2M:
            result.others[str(path)] = f"{path.name} ({capability.card}) is not a camera."
        else:
            bus = capability.bus or str(path)
            interface[bus] = _interface(links.get(str(path), ())) or interface.get(bus, "")
            groups.setdefault((bus, interface[bus]), []).append((str(path), capability))
    for nodes in groups.values():
        paths = tuple(path for path, _ in nodes)
        names = tuple(name for path in paths for name in links.get(path, ()))
        names = tuple(sorted(names, key=lambda name: "/by-id/" not in name))
        result.cameras.append(UsbCamera(nodes[0][1].card or "USB camera", nodes[0][1].bus, names, paths))
    result.cameras = [_told_apart(camera, result.cameras, links) for camera in result.cameras]
    return result


def resolve(wanted: str, found: UsbCameras, root: Path = Path("/")) -> UsbCamera:
    """The camera that the owner means.

    Args:
        wanted: A stable name, a part of one or of the model, `/dev/videoN`, or "" for the only one. What fits all cameras of one
            device means its first one.
        found: What a look round brought.
        root: Where `dev` lies.

    Raises:
        DeviceFault: It is not there, or the name fits several, or may fit another one at the next start.
    """
    if wanted.startswith("/"):
        return _by_path(wanted, found, root)
    if not wanted:
        matches = found.cameras
    else:
        matches = [camera for camera in found.cameras if any(_plain(wanted) in _plain(text) for text in _texts(camera))]
    if _one_device(matches):
        return matches[0]
    if matches:
        which = f"`{wanted}` fits several cameras" if wanted else "There are several USB cameras"
        raise DeviceFault(f"{which}; write one of these as `device`: {_listed(matches)}.", retry=not wanted)
    if NO_PERMISSION in found.others.values():
        raise DeviceFault(NO_PERMISSION)
    if not wanted:
        raise DeviceFault("No USB camera is plugged in.")
    there = f" There is {_listed(found.cameras)}." if found.cameras else ""
    raise DeviceFault(f"The USB camera {wanted} is not plugged in.{there}")


def _by_path(wanted: str, found: UsbCameras, root: Path) -> UsbCamera:
    place = root / wanted.lstrip("/")
    target = str(place.resolve())
    if like := [camera for camera in found.cameras if wanted in camera.shared]:
        if _one_device(like):
            return like[0]
        raise DeviceFault(
            f"{place.name} may be any of several cameras that are alike; write one of these as `device`: {_listed(like)}.",
            retry=False,
        )
    for camera in found.cameras:
        if wanted in camera.names or str(place) in camera.names or target in camera.nodes:
            if re.fullmatch(r"/dev/video\d+", wanted) and camera.names:
                _log.warning(
                    "%s is a number that changes when cameras are plugged in; write device: %s for the %s",
                    wanted,
                    camera.stable_name,
                    camera.card,
                )
            return camera
    if target in found.others:
        raise DeviceFault(found.others[target], retry=found.others[target] == NO_PERMISSION)
    raise DeviceFault(f"The USB camera {place.name} is not plugged in.")


def _ask(path: str) -> v4l2.Capability:
    node = v4l2.Node(path)
    try:
        return node.capability()
    finally:
        node.close()


def _links(root: Path) -> dict[str, list[str]]:
    """Names of each node in by-id and by-path, as seen from the root."""
    links: dict[str, list[str]] = {}
    for folder in ("by-id", "by-path"):
        for link in sorted((root / "dev/v4l" / folder).glob("*")):
            links.setdefault(str(link.resolve()), []).append("/" + str(link.relative_to(root)))
    return links


def _interface(names: Sequence[str]) -> str:
    """Which interface of a USB device a node belongs to, by its link in by-path; "" without udev.

    A device with several cameras has one interface for each of them; the nodes of one camera have one together.
    """
    return next((name.rpartition("-video-index")[0] for name in names if "/by-path/" in name), "")


def _told_apart(camera: UsbCamera, cameras: Sequence[UsbCamera], links: Mapping[str, Sequence[str]]) -> UsbCamera:
    """The same, without its links in by-id where they may be those of another.

    Of cameras that udev cannot tell apart (no serial numbers, or two cameras in one device) one gets the link, at each start
    perhaps another one, and where that is unplugged, the next one; the others have links in by-path only.
    """
    like = [other for other in cameras if other.card == camera.card or other.bus == camera.bus != ""]
    nodes = [path for other in like for path in other.nodes]
    if len(like) == 1 or all(path not in links or _in_by_id(links[path]) for path in nodes):
        return camera
    shared = tuple(name for other in like for name in _in_by_id(other.names))
    return replace(camera, names=tuple(name for name in camera.names if name not in shared), shared=shared)


def _one_device(cameras: Sequence[UsbCamera]) -> bool:
    return len({camera.bus or camera.nodes[0] for camera in cameras}) == 1


def _in_by_id(names: Sequence[str]) -> list[str]:
    return [name for name in names if "/by-id/" in name]


def _number(path: Path) -> tuple[int, str]:
    digits = path.name.removeprefix("video")
    return (int(digits) if digits.isascii() and digits.isdigit() else 1 << 30, path.name)


def _texts(camera: UsbCamera) -> list[str]:
    return [camera.card, *(Path(name).name for name in camera.names + camera.shared)]


def _plain(text: str) -> str:
    """Without what links and models write differently."""
    return " ".join(re.findall(r"[a-z0-9]+", text.casefold()))


def _listed(cameras: Sequence[UsbCamera]) -> str:
    return ", ".join(f"{camera.stable_name} ({camera.card})" for camera in cameras)
