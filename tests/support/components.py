"""Programs and modules that some tests need: absent, the test is skipped with a sentence; with CI=true it fails."""

from __future__ import annotations

__all__ = ["PACKAGES", "require"]

import importlib.util
import os
import shutil

import pytest

PACKAGES = {
    "chromium": "chromium",
    "dbus-daemon": "dbus-daemon",
    "depmod": "kmod",
    "modprobe": "kmod",
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
    "go": "golang",
    "ip": "iproute2",
    "mosquitto": "mosquitto",
    "node": "nodejs",
    "npm": "npm",
    "pebble-challtestsrv": "pebble",
    "pdftoppm": "poppler-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rsvg-convert": "librsvg2-bin",
    "systemd-analyze": "systemd",
    "turnserver": "coturn",
    "xz": "xz-utils",
}
"""Debian's package of each program."""


def require(component: str) -> str:
    """Return the path of a program, or say that it is missing and how to install it.

    Args:
        component: A program's name, `module:NAME` for a Python module, or `root` for the right to make network namespaces.
    """
    if component == "root":
        if os.geteuid() == 0:
            return ""
        return _missing("this test makes namespaces: run it as root")
    if component.startswith("module:"):
        name = component.removeprefix("module:")
        if importlib.util.find_spec(name):
            return name
        return _missing(f"the Python module {name} is missing: run `make test`, which installs it")
    # Debian keeps servers in sbin, which the PATH of an ordinary user lacks.
    path = shutil.which(component, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
    return path or _missing(f"{component} is missing: sudo apt-get install {PACKAGES.get(component, component)}")


def _missing(sentence: str) -> str:
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"{sentence} (with CI=true nothing may be missing)", pytrace=False)
    pytest.skip(sentence)
