"""The owner's own drivers: one file each in a folder that nobody else may write to.

Whoever can write there runs code as the agent does, on its pins: so the folder, what leads to it and each file must belong to root
or to the agent's user, and be writable by nobody else. Files are compiled from the very bytes that were looked at; no cache is read
or written beside them, and the folder is no part of `sys.path`.
"""

from __future__ import annotations

__all__ = ["found", "load", "refusal", "run"]

import importlib.abc
import importlib.util
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

from edgeagent.drivers.camera import Camera
from edgeagent.drivers.device import Driver
from edgeagent.errors import DeviceFault

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)
_MAX_BYTES = 1_000_000
_loaded: dict[Path, tuple[tuple[int, ...], Any]] = {}


class _Loader(importlib.abc.ExecutionLoader):
    """Runs bytes that were read already."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._source)


def found(folder: Path) -> dict[str, Path]:
    """The files by their drivers' names (`my_lamp.py` brings `my-lamp`); tests and what begins with `_` are left out.

    Raises:
        DeviceFault: The folder cannot be read, or others may write to it.
    """
    if sentence := refusal(folder):
        raise DeviceFault(sentence, retry=False)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DeviceFault(f"The drivers in {folder} cannot be listed: {error.strerror or error}.", retry=False) from None
    files = [folder / name for name in names if name.endswith(".py") and not name.startswith(("_", ".", "test_"))]
    return {path.stem.replace("_", "-").lower(): path for path in files}


def refusal(folder: Path) -> str:
    """Why no driver is taken from a folder, a sentence; "" where they are."""
    try:
        whole = folder.resolve(strict=True)
        if not whole.is_dir():
            return f"{folder} is no directory; write the one that holds your drivers, or leave `drivers_dir` out."
        for part in (whole, *whole.parents):
            # In a directory with the sticky bit nobody can put something else in the place of what belongs to another.
            if reason := _unsafe(part.stat(), sticky_serves=part != whole):
                return f"Drivers are not loaded from {folder}, since {part} {reason}"
    except OSError as error:
        return f"{folder} cannot be used: {error.strerror or error}; write the directory that holds your drivers."
    return ""


def load(name: str, path: Path) -> Any:
    """The one driver class that a file defines, or whatever stands in its place; the registry looks whether it is a driver.

    Raises:
        DeviceFault: Others may write to the file, it cannot be loaded, or it does not define exactly one driver.
    """
    if not _NAME.fullmatch(name):
        raise _fault(path, "is named after its file: call that by a-z, 0-9 and _, like my_lamp.py")
    source, mark = _read(path)
    known = _loaded.get(path)
    if known and known[0] == mark:
        return known[1]
    driver = run(path, source)
    _loaded[path] = (mark, driver)
    return driver


def _read(path: Path) -> tuple[bytes, tuple[int, ...]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise _fault(path, "is a link; copy the file itself into the folder") from None
        raise _fault(path, f"cannot be read: {error.strerror or error}") from None
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _fault(path, "is no file")
        if reason := _unsafe(facts, sticky_serves=False):
            raise _fault(path, reason)
        source = file.read(_MAX_BYTES + 1)
    if len(source) > _MAX_BYTES:
        raise _fault(path, f"is larger than {_MAX_BYTES // 1000} kB; this is no driver")
    return source, (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)


def _unsafe(facts: os.stat_result, *, sticky_serves: bool) -> str:
    if facts.st_uid not in (0, os.geteuid()):
        return "belongs to another user than root or the one that the agent runs as; change its owner with `chown`."
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (sticky_serves and facts.st_mode & stat.S_ISVTX):
        return "may be written to by others; take that right away with `chmod go-w`."
    return ""


def run(path: Path, source: bytes | None = None) -> Any:
    """As `load`, whoever may write to the file: for the tests of its author."""
    if source is None:
        source = path.read_bytes()
    module_name = f"edgeagent_own_{path.stem}"
    spec = importlib.util.spec_from_loader(module_name, _Loader(path, source), origin=str(path))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(module_name)
    sys.modules[module_name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # SystemExit, too: a file may fail in any way, and the other drivers go on
        if before is None:
            del sys.modules[module_name]
        else:
            sys.modules[module_name] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _fault(path, f"cannot be loaded ({_where(error, path)}{type(error).__name__}: {error})") from error
    own = [
        thing
        for label, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, Camera | Driver) and thing.__module__ == module_name
        if label == thing.__name__ and label[0] != "_"
    ]
    if len(own) == 1:
        return own[0]
    if not own:
        raise _fault(
            path, "defines no driver; write one class derived from `Sensor`, `Actuator` or `Camera` of `edgeagent.drivers`"
        )
    classes = ", ".join(one.__name__ for one in own)
    raise _fault(path, f"defines several drivers ({classes}); keep one to a file, and begin the names of base classes with _")


def _where(error: BaseException, path: Path) -> str:
    """The line of the file that failed."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    line = 0
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""


def _fault(path: Path, reason: str) -> DeviceFault:
    return DeviceFault(f"The driver {path} {reason}{'' if reason.endswith('.') else '.'}", retry=False)
