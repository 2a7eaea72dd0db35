"""The MQTT topics, within the portable profile: at most 6 slashes, `[a-z0-9-]`, the sender is the last level of an inbox.

ea/1/d/<device>/hello           retained `Hello`
ea/1/d/<device>/up              retained `Up`
ea/1/d/<device>/in/<viewer>     from that viewer to the device
ea/1/v/<viewer>/in/<device>     from that device to the viewer
ea/1/d/<device>/r/<name>        retained readings of one of its sensors or actuators (`wire.home`)
ea/1/d/<device>/still/<camera>  JPEG of a camera
ea/1/d/<device>/announced       retained: what a home automation has been told
"""

from __future__ import annotations

__all__ = [
    "agent_filters",
    "announced",
    "device_inbox",
    "hello",
    "is_name",
    "readings",
    "readings_filter",
    "sender_of",
    "still",
    "up",
    "viewer_inbox",
]

import re

_ROOT = "ea/1"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)


def is_name(name: str) -> bool:
    """Whether `name` may name a device, a camera or a viewer (as `messages.Name`)."""
    return _NAME.fullmatch(name) is not None


def hello(device: str) -> str:
    """Where the device's `Hello` is retained."""
    return f"{_ROOT}/d/{_checked(device)}/hello"


def up(device: str) -> str:
    """Where the device's `Up` is retained."""
    return f"{_ROOT}/d/{_checked(device)}/up"


def device_inbox(device: str, viewer: str) -> str:
    """Where `viewer` writes to `device`."""
    return f"{_ROOT}/d/{_checked(device)}/in/{_checked(viewer)}"


def viewer_inbox(viewer: str, device: str) -> str:
    """Where `device` writes to `viewer`."""
    return f"{_ROOT}/v/{_checked(viewer)}/in/{_checked(device)}"


def readings(device: str, name: str) -> str:
    """Where the readings of `name`, a sensor or an actuator of `device`, are retained."""
    return f"{_ROOT}/d/{_checked(device)}/r/{_checked(name)}"


def readings_filter(device: str) -> str:
    """All readings of `device`."""
    return f"{_ROOT}/d/{_checked(device)}/r/+"


def still(device: str, camera: str) -> str:
    """Where still pictures of a camera are published; never retained."""
    return f"{_ROOT}/d/{_checked(device)}/still/{_checked(camera)}"


def announced(device: str) -> str:
    """Where `device` retains what it has announced in topics of others."""
    return f"{_ROOT}/d/{_checked(device)}/announced"


def agent_filters(device: str) -> tuple[str, ...]:
    """What an agent subscribes to: its inbox, and its own presence (to overwrite a late will)."""
    return (f"{_ROOT}/d/{_checked(device)}/in/+", up(device))


def sender_of(topic: str, device: str) -> str | None:
    """The viewer who wrote to `device` on `topic`; None where it is not an inbox of this device or no valid name."""
    prefix = f"{_ROOT}/d/{device}/in/"
    viewer = topic[len(prefix) :]
    return viewer if topic.startswith(prefix) and is_name(viewer) else None


def _checked(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name[:80]!r} is not a name: use a-z, 0-9 and inner hyphens, at most 64 characters")
    return name
