"""Everything that the doctor looks at, side by side."""

from __future__ import annotations

__all__ = ["examine", "run"]

import asyncio
import os
import sys
from collections.abc import Awaitable, Mapping
from pathlib import Path

from edgeagent import __version__
from edgeagent.config import Config, Drivers, load
from edgeagent.doctor.agent import RunningAgent, find_agent
from edgeagent.doctor.board import look_at_board
from edgeagent.doctor.cameras import look_at_cameras
from edgeagent.doctor.certificate import look_at_certificate
from edgeagent.doctor.configured import look_at_configured
from edgeagent.doctor.joining import look_at_joining
from edgeagent.doctor.network import look_at_broker, look_at_ice, look_at_names
from edgeagent.doctor.ports import look_at_firewall, look_at_ports
from edgeagent.doctor.program import look_at_devices, look_at_libraries, look_at_service
from edgeagent.doctor.report import Finding, Level, Report, ok, problem
from edgeagent.doctor.work import System, bounded, off_loop
from edgeagent.errors import ConfigError

_CHECK_S = 5.0
_BROKER_S = 9.0
_CAMERAS_S = 14.0  # each camera, and then the encoder, have limits of their own within it
_ICE_S = 9.0


def run(path: Path | None, *, as_json: bool) -> int:
    """Print a report; returns the exit code: 1 where a problem was found."""
    report = asyncio.run(examine(path, os.environ, System()))
    print(report.as_json() if as_json else report.as_text(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return 1 if report.level is Level.PROBLEM else 0


async def examine(path: Path | None, variables: Mapping[str, str], system: System) -> Report:
    """Look at everything.

    Args:
        path: The configuration; None looks at the board alone.
        variables: The environment, for overrides of the configuration.
        system: The machine.
    """
    config, findings = _configuration(path, variables)
    agent = await find_agent(config) if config else None
    looks = _of_the_machine(config, agent, system) + (_of_the_configuration(config, agent, system) if config else [])
    for found in await asyncio.gather(*looks):
        findings += found
    return Report.of(__version__, config.device if config else "", findings, config.secrets() if config else ())


def _configuration(path: Path | None, variables: Mapping[str, str]) -> tuple[Config | None, list[Finding]]:
    if path is None:
        return None, []
    try:
        config = load(path, variables, Drivers.installed())
    except ConfigError as error:
        return None, [problem("config", f"{path.name}: {said}", path=said.path) for said in error.problems]
    counted = [(len(config.cameras), "camera"), (len(config.devices), "sensor or actuator")]
    return config, [ok("config", f"{path.name} is right: device {config.device}, {_counted(counted)}.")]


def _counted(things: list[tuple[int, str]]) -> str:
    plural = {"camera": "cameras", "sensor or actuator": "sensors and actuators"}
    return ", ".join(f"{number} {word if number == 1 else plural[word]}" for number, word in things if number)


def _of_the_machine(config: Config | None, agent: RunningAgent | None, system: System) -> list[Awaitable[list[Finding]]]:
    return [
        bounded("board", "the board", _CHECK_S, look_at_board(system)),
        bounded("program", "the libraries", _CHECK_S, off_loop(look_at_libraries)),
        bounded("service", "the service", _CHECK_S, off_loop(lambda: look_at_service(system, running=agent is not None))),
        bounded("devices", "the devices", _CHECK_S, off_loop(lambda: look_at_devices(system))),
        bounded("firewall", "the firewall", _CHECK_S, off_loop(lambda: look_at_firewall(config, system))),
        bounded("dns", "names", _CHECK_S, look_at_names(config, system)),
        bounded("encoder", "cameras and encoder", _CAMERAS_S, look_at_cameras(config, agent, system)),
    ]


def _of_the_configuration(config: Config, agent: RunningAgent | None, system: System) -> list[Awaitable[list[Finding]]]:
    return [
        bounded("http", "the ports", _CHECK_S, off_loop(lambda: look_at_ports(config, agent, system))),
        bounded("tls", "the certificate", _CHECK_S, off_loop(lambda: look_at_certificate(config, agent))),
        bounded("broker", "the broker", _BROKER_S, look_at_broker(config, agent)),
        bounded("join", "joining", _CHECK_S, off_loop(lambda: look_at_joining(config))),
        bounded("device", "sensors and actuators", _CHECK_S, off_loop(lambda: look_at_configured(config, agent))),
        bounded("ice", "STUN and TURN", _ICE_S, look_at_ice(config)),
    ]
