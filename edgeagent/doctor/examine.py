"""Everything that the doctor looks at, side by side."""

from __future__ import annotations

__all__ = ["examine", "run"]

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Mapping
from pathlib import Path

from edgeagent import __version__
from edgeagent.config import Config
from edgeagent.doctor.agent import RunningAgent, find_agent
from edgeagent.doctor.board import look_at_board
from edgeagent.doctor.cameras import look_at_cameras
from edgeagent.doctor.certificate import look_at_certificate
from edgeagent.doctor.configured import look_at_configured
from edgeagent.doctor.joining import look_at_joining
from edgeagent.doctor.network import look_at_broker, look_at_ice, look_at_names
from edgeagent.doctor.ports import look_at_firewall, look_at_ports, silent_agent
from edgeagent.doctor.program import look_at_devices, look_at_libraries, look_at_service
from edgeagent.doctor.report import Finding, Level, Report
from edgeagent.doctor.settings import Settings, read_settings
from edgeagent.doctor.work import System, bounded, off_loop
from edgeagent.install.places import Places

_CHECK_S = 5.0
_BROKER_S = 9.0
_CAMERAS_S = 14.0  # each camera, and then the encoder, have limits of their own within it
_ICE_S = 9.0


def run(path: Path | None, state: Path | None, *, as_json: bool) -> int:
    """Print a report; returns the exit code: 1 where a problem was found."""
    report = asyncio.run(examine(path, os.environ, System(), state))
    print(report.as_json() if as_json else report.as_text(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return 1 if report.level is Level.PROBLEM else 0


async def examine(path: Path | None, variables: Mapping[str, str], system: System, state: Path | None = None) -> Report:
    """Look at everything.

    Args:
        path: The configuration; None looks at the board alone, unless its site has set one.
        variables: The environment, for overrides of the configuration.
        system: The machine.
        state: The agent's state folder; None takes the board for one that belongs to no site.
    """
    settings = read_settings(path, state, variables, Places(system.root))
    config, findings = settings.config, settings.findings
    agent: RunningAgent | None = None
    if config is not None:
        agent = await find_agent(config, hidden=settings.hidden)
        agent = agent or await off_loop(functools.partial(silent_agent, config, system, hidden=settings.hidden))
    looks = _of_the_machine(settings, agent, system) + (_of_the_configuration(config, settings, agent, system) if config else [])
    for found in await asyncio.gather(*looks):
        findings += found
    return Report.of(__version__, config.device if config else "", findings, config.secrets() if config else ())


def _of_the_machine(settings: Settings, agent: RunningAgent | None, system: System) -> list[Awaitable[list[Finding]]]:
    config = settings.config
    return [
        bounded("board", "the board", _CHECK_S, look_at_board(system)),
        bounded("program", "the libraries", _CHECK_S, off_loop(look_at_libraries)),
        bounded("service", "the service", _CHECK_S, off_loop(lambda: look_at_service(system, running=agent is not None))),
        bounded("devices", "the devices", _CHECK_S, off_loop(lambda: look_at_devices(system))),
        bounded("firewall", "the firewall", _CHECK_S, off_loop(lambda: look_at_firewall(config, system))),
        bounded("dns", "names", _CHECK_S, look_at_names(config, system, settings.identity)),
        bounded("encoder", "cameras and encoder", _CAMERAS_S, look_at_cameras(config, agent, system)),
    ]


def _of_the_configuration(
    config: Config, settings: Settings, agent: RunningAgent | None, system: System
) -> list[Awaitable[list[Finding]]]:
    return [
        bounded("http", "the ports", _CHECK_S, off_loop(lambda: look_at_ports(config, agent, system))),
        bounded("tls", "the certificate", _CHECK_S, off_loop(lambda: look_at_certificate(config, agent))),
        bounded("broker", "the broker", _BROKER_S, look_at_broker(config, agent, settings.identity)),
        bounded("join", "joining", _CHECK_S, off_loop(lambda: look_at_joining(config))),
        bounded("device", "sensors and actuators", _CHECK_S, off_loop(lambda: look_at_configured(config, agent))),
        bounded("ice", "STUN and TURN", _ICE_S, look_at_ice(config)),
    ]
