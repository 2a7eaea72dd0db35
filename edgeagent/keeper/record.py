"""What the keeper has open, written down while it has: by it the unit's `ExecStopPost` stops what a keeper left that died for good.

The file lies in systemd's `RuntimeDirectory=` ($RUNTIME_DIRECTORY); without one nothing is written. It is independent of the
configuration, which may have been changed since. A keeper that ended well leaves none.
"""

from __future__ import annotations

__all__ = ["path", "read", "remove", "stop_all", "write"]

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeagent.keeper.worker import Prepared
    from edgeagent.wire.keeper import Open

_NAME = "keeper.json"
_STOP_S = 5.0


def path(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where it lies; None where the system gives no folder."""
    folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(folder, _NAME) if folder else None


def write(file: Path, message: Open) -> None:
    """Write it down, readable by this user only. Without it the keeper works, too: what fails is said."""
    from edgeagent.wire.keeper import encode

    new = file.with_suffix(".new")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(encode(message))
        new.replace(file)
    except OSError as error:
        print(f"keeper: {file} cannot be written ({error.strerror})", file=sys.stderr)


def remove(file: Path) -> None:
    """Everything was stopped and closed."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def read(file: Path) -> Open | None:
    """What was left open; None for nothing."""
    from edgeagent.errors import PeerError
    from edgeagent.wire.keeper import Open, decode_agent

    try:
        message = decode_agent(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, PeerError) as error:
        print(f"keeper: {file} cannot be read ({error})", file=sys.stderr)
        return None
    return message if isinstance(message, Open) else None


def stop_all(file: Path | None) -> int:
    """Open, stop and close what was left open, all at once; returns the exit code: 0 where nothing is left to do."""
    if file is None or not file.exists():
        return 0
    if (message := read(file)) is None:
        return 1
    from edgeagent.keeper.worker import prepare

    prepared = prepare(message)
    stopped: set[str] = set()
    threads = [threading.Thread(target=_stop, args=(item, stopped), daemon=True) for item in prepared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_STOP_S)
    left = [item.kept.name for item in prepared if item.kept.name not in stopped]
    if left:
        print(f"keeper: could not be stopped: {', '.join(left)}; cut its supply", file=sys.stderr)
        return 1
    remove(file)
    return 0


def _stop(item: Prepared, stopped: set[str]) -> None:
    from edgeagent.drivers.pins import open_driver

    name = item.kept.name
    if item.kind is None:
        print(f"keeper: {name}: {item.problem}", file=sys.stderr)
        return
    driver = item.kind(name, item.kind.Options.model_validate(item.kept.options))
    try:
        open_driver(driver)
        driver.stop()
        stopped.add(name)
    except Exception as error:
        print(f"keeper: {name}: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        driver.close()
