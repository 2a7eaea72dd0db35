"""The driver `picamera2` on the real picamera2 and libcamera: pytest in the image of `image.py` runs `inside/check_*.py`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.rootfs import image
from tests.support.components import require
from tests.support.procs import Program

INSIDE = "/src/tests/rootfs/inside"
OPTIONS = (
    *(
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.rootfs.inside.plugin",
        "-c",
        "/dev/null",
        "--rootdir",
        INSIDE,
        "--confcutdir",
        INSIDE,
        "--import-mode=importlib",
    ),
    *("-o", "python_files=check_*.py", "-o", "faulthandler_timeout=120", "-q"),
    *("-W", "error", "-W", "ignore:setDaemon:DeprecationWarning"),
)


CHECKS = ("check_camera", "check_codec")


@pytest.mark.e2e
@pytest.mark.timeout(600)  # the first run makes the image
def test_on_libcamera() -> None:
    """All at once: they mostly wait for pictures."""
    require("root")
    require("mmdebstrap")
    root = image.ready()
    with contextlib.ExitStack() as stack:
        running = {
            check: stack.enter_context(Program(image.argv(root, "-m", "pytest", *OPTIONS, f"{INSIDE}/{check}.py")))
            for check in CHECKS
        }
        for check, program in running.items():
            program.wait_for(lambda program=program: not program.running, f"{check} in the image", deadline_s=300)  # type: ignore[misc]
        failed = {check: program.log for check, program in running.items() if program.stop()}
    assert not failed, "\n".join(failed.values())


def test_the_checks_are_there() -> None:
    """What the test above names, and nothing else, is in the folder."""
    assert {path.stem for path in (Path(__file__).parent / "inside").glob("check_*.py")} == set(CHECKS)
