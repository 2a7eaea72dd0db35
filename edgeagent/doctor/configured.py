"""The configuration's sensors and actuators: what the running agent says of them, or whether driver, library and bus are there.

Nothing is opened here: opening an actuator claims its pins, and may make it twitch.
"""

from __future__ import annotations

__all__ = ["look_at_configured"]

from pathlib import Path

from edgeagent.config import Config, DeviceConfig
from edgeagent.doctor.agent import RunningAgent
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.drivers import registry
from edgeagent.errors import DeviceFault


def look_at_configured(config: Config, agent: RunningAgent | None) -> list[Finding]:
    """One finding for each; looking at drivers may take a moment, since it loads their libraries."""
    if agent is not None:
        return [_ask_agent(name, agent) for name in config.devices]
    return [_look(name, settings, config.drivers_dir) for name, settings in config.devices.items()]


def _ask_agent(name: str, agent: RunningAgent) -> Finding:
    check = f"device.{name}"
    if agent.mute:
        return notice(check, f"{name}: not looked at, since {agent.mute}.", agent.advice)
    known = agent.health.get("devices", {}).get(name)
    if known is None:
        return (notice if agent.hidden else problem)(check, f"{name}: the running agent does not have this device.", agent.advice)
    phase, text = known.get("phase", ""), known.get("text", "")
    match phase:
        case "live":
            return ok(check, f"{name}: works, says the running agent.", phase=phase)
        case "starting":
            return notice(check, f"{name}: is just being opened by the running agent.", "Look again in a moment.", phase=phase)
    return problem(check, f"{name}: {text or 'does not work, says the running agent.'}", phase=phase)


def _look(name: str, settings: DeviceConfig, folder: Path | None) -> Finding:
    check = f"device.{name}"
    try:
        driver = registry.load_device(settings.driver, folder)(name, settings.options)
        driver.check()
    except DeviceFault as fault:
        return problem(check, f"{name}: {fault.message}")
    except Exception as error:  # a plug-in may fail in any way
        return problem(check, f"{name}: its driver failed ({type(error).__name__}: {error}).", "Please report it to its author.")
    return ok(check, f"{name}: driver, library and bus are there, as far as can be told without opening it ({settings.driver}).")
