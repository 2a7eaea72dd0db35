"""pytest in the image: lays the seams before anything is collected, and checks that each test cleans up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.rootfs.inside import board

board.install()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Each check ends its threads, and leaves no camera open."""
    from picamera2 import Picamera2

    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("edgeagent", "camera-"))]
    assert not left, f"threads are left: {left}"
    assert not Picamera2._cm.cameras, "a camera is left open"
