"""The program: versions, the libraries that are pinned, the service, the rights of its user."""

from __future__ import annotations

__all__ = ["look_at_devices", "look_at_libraries", "look_at_service", "parse_show"]

import grp
import importlib.metadata
import os
import platform
from pathlib import Path

from edgeagent import __version__
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.doctor.work import System
from edgeagent.rtc import private

_LIBRARIES = ("aiortc", "aioice", "pylibsrtp", "av", "aiohttp", "paho-mqtt", "pydantic")
_UNIT = "edgeagent.service"
_RESTARTS = 3
_NODES = {
    "cameras and encoders": ("dev/video*", "dev/media*", "dev/dma_heap/*"),
    "graphics": ("dev/dri/renderD*",),
    "pins": ("dev/gpiochip*",),
    "I2C": ("dev/i2c-*",),
    "SPI": ("dev/spidev*",),
}


def look_at_libraries() -> list[Finding]:
    """Versions, and whether the fast sender fits the libraries that are installed."""
    versions = {"edgeagent": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    facts: dict[str, str] = versions
    said = f"edgeagent {__version__} on Python {versions['python']}"
    if broken := private.broken():
        text = (
            f"{said}: the fast sender does not fit the libraries that are installed; the slow one is taken ({'; '.join(broken)})."
        )
        advice = "Install the versions in requirements.lock: `pip install --require-hashes -r requirements.lock`."
        return [notice("program", text, advice, **facts)]
    return [ok("program", f"{said}, with the libraries that it was tested with (aiortc {versions['aiortc']}).", **facts)]


def parse_show(text: str) -> dict[str, str]:
    """`systemctl show`: `Key=value` lines."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def look_at_service(system: System, *, running: bool) -> list[Finding]:
    """What systemd says of the service. Blocks for a moment.

    Args:
        system: This machine.
        running: Whether an agent answers.
    """
    if not (system.root / "run/systemd/system").is_dir():
        return [ok("service", "This machine is not run by systemd; start the agent in your own way.")]
    keys = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,Result"
    show = parse_show(system.run(["systemctl", "show", _UNIT, f"--property={keys}"]))
    facts = {key: show.get(key, "") for key in keys.split(",")}
    if not show:
        return [ok("service", "systemd does not answer here; start the agent in your own way.", **facts)]
    if facts["LoadState"] != "loaded":
        text = "The agent is not installed as a service: it does not start with the board."
        return [notice("service", text, "docs/operation.md says how to install it.", **facts)]
    restarts = int(facts["NRestarts"]) if facts["NRestarts"].isdigit() else 0
    log = "`journalctl -u edgeagent -n 20` shows its last words."
    match facts["ActiveState"], facts["SubState"]:
        case "failed", _:
            return [problem("service", f"The service has failed ({facts['Result']}).", log, **facts)]
        case _, "auto-restart":
            return [problem("service", f"The service ends again and again ({restarts} restarts).", log, **facts)]
        case "active", _ if restarts > _RESTARTS:
            return [notice("service", f"The service runs, but had to be restarted {restarts} times.", log, **facts)]
        case "active", _ if facts["UnitFileState"] != "enabled":
            text = "The service runs, but does not start with the board."
            return [notice("service", text, "`sudo systemctl enable edgeagent` changes that.", **facts)]
        case "active" | "activating", _:
            return [ok("service", "The service runs, and starts with the board.", **facts)]
    text = "The service is installed, but does not run" + (", since the agent was started in another way." if running else ".")
    return [notice("service", text, "" if running else "`sudo systemctl enable --now edgeagent` starts it.", **facts)]


def look_at_devices(system: System) -> list[Finding]:
    """Whether the user may open what cameras, encoders, pins and buses need."""
    there: dict[str, list[Path]] = {
        what: [node for pattern in patterns for node in sorted(system.root.glob(pattern))] for what, patterns in _NODES.items()
    }
    there = {what: nodes for what, nodes in there.items() if nodes}
    closed = {what: [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)] for what, nodes in there.items()}
    closed = {what: nodes for what, nodes in closed.items() if nodes}
    facts = {"found": {what: len(nodes) for what, nodes in there.items()}, "closed": {w: len(n) for w, n in closed.items()}}
    if not there:
        return [ok("devices", "This machine has no cameras, pins or buses of its own; cameras on the network need none.", **facts)]
    if not closed:
        return [ok("devices", f"The user {system.user} may open what is built in: {', '.join(there)}.", **facts)]
    groups = sorted({name for nodes in closed.values() for node in nodes if (name := _group(node))})
    text = f"The user {system.user} may not open {' and '.join(f'what is needed for {what}' for what in closed)}."
    advice = f"If the agent runs as this user: `sudo usermod -aG {','.join(groups)} {system.user}`, then log in again."
    return [notice("devices", text, advice if groups else "", **facts)]


def _group(node: Path) -> str:
    try:
        name = grp.getgrgid(node.stat().st_gid).gr_name
    except (KeyError, OSError):
        return ""
    return "" if name == "root" else name  # nobody should be in that one
