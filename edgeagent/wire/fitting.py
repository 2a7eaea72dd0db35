"""Makes descriptions of devices fit into messages of `MAX_CONTROL` bytes."""

from __future__ import annotations

__all__ = ["fit", "leading"]

from collections.abc import Sequence

from edgeagent.wire.codec import encode
from edgeagent.wire.control import MAX_CONTROL, DeviceInfo

ROOM = MAX_CONTROL - 400
"""Bytes for descriptions in one message: the rest says who the viewer is."""
_TEXT = 300


def fit(device: DeviceInfo) -> DeviceInfo:
    """The device so that it fits into one message, with room for another phase: schemas of arguments go first, the longest of them
    before others; then commands, readings and axes from the last on."""
    room = ROOM - 4 * _TEXT if len(device.text) < _TEXT else ROOM
    device = device.model_copy(update={"title": device.title[:100], "text": device.text[:_TEXT]})
    while _size(device) > room and any(command.arguments for command in device.commands):
        longest = max(device.commands, key=lambda command: len(encode(command)) if command.arguments else 0)
        bare = longest.model_copy(update={"arguments": {}})
        device = device.model_copy(update={"commands": [bare if c is longest else c for c in device.commands]})
    for key in ("commands", "readings", "axes"):
        while _size(device) > room and getattr(device, key):
            device = device.model_copy(update={key: getattr(device, key)[:-1]})
    return device


def leading(devices: Sequence[DeviceInfo]) -> int:
    """How many of these fit into one message; at least one where there is one."""
    size = 0
    for count, device in enumerate(devices):
        size += _size(device) + 1
        if size > ROOM and count:
            return count
    return len(devices)


def _size(device: DeviceInfo) -> int:
    return len(encode(device).encode())
