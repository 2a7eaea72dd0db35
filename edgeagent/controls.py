"""Sensors, actuators and who uses them, put together: the desk, the keeper for what moves, the supervisor for the rest."""

from __future__ import annotations

__all__ = ["Controls"]

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from edgeagent.config import AxisLimits, Config, DeviceConfig
from edgeagent.core.arbiter_events import ArbiterConfig
from edgeagent.core.ports import CapturedAt, ViewerChannels
from edgeagent.core.principals import Principals, principal_of
from edgeagent.core.telemetry import Intervals
from edgeagent.desk import Desk
from edgeagent.drivers import registry
from edgeagent.drivers.device import Actuator, Driver, Sensor, commands_of
from edgeagent.drivers.introduce import device_info
from edgeagent.drivers.supervisor import Supervisor
from edgeagent.keeper.client import Keeper, plain_options
from edgeagent.wire import keeper as wire
from edgeagent.wire.control import DeviceInfo

_log = logging.getLogger(__name__)


class Controls:
    """Making it opens nothing; `running` starts and ends all parts.

    Args:
        config: With its devices.
        channels: Where viewers are reached.
        captured_at: When the picture on a viewer's screen was taken.

    Raises:
        DeviceFault: A driver cannot be loaded.
    """

    def __init__(self, config: Config, channels: ViewerChannels, captured_at: CapturedAt) -> None:
        folder = config.drivers_dir
        drivers = {name: _made(name, device, folder) for name, device in config.devices.items()}
        kept = {name for name, driver in drivers.items() if isinstance(driver, Actuator) and driver.moves}
        control = config.control
        # Who asks for a token may stand behind a proxy, and everybody who comes through that is local.
        here = control.local or ("admin" if config.http.token is None else "watch")
        self.classes = {
            (name, reading): info.device_class
            for name, driver in drivers.items()
            if isinstance(driver, Sensor)
            for reading, info in driver.readings.items()
        }
        """What Home Assistant calls each reading, by device and reading; "" for nothing."""
        self.secrets = [secret for driver in drivers.values() for secret in driver.secrets()]
        self.desk = Desk(
            ArbiterConfig(
                devices=tuple(_info(driver, config.devices[name]) for name, driver in drivers.items()),
                expiry_s=control.expiry_ms / 1000,
                max_picture_age_s=control.max_picture_age_ms / 1000 if config.cameras else 0.0,
                still=frozenset(
                    (name, command)
                    for name, driver in drivers.items()
                    for command, marks in commands_of(driver).items()
                    if not marks["moves"]
                ),
            ),
            channels=channels,
            principals=Principals(
                {who.token.get_secret_value(): principal_of(name, who.role) for name, who in control.operators.items()},
                secrets.token_bytes,
                local=principal_of("This computer", here) if here != "watch" else None,
            ),
            captured_at=captured_at,
            intervals={
                (name, reading): Intervals(own.min_interval_s, own.max_interval_s)
                for name, device in config.devices.items()
                for reading, own in device.telemetry.items()
            },
            reads_s={
                name: config.devices[name].interval_s or driver.interval_s
                for name, driver in drivers.items()
                if isinstance(driver, Sensor)
            },
        )
        local = {name: driver for name, driver in drivers.items() if name not in kept}
        intervals = {name: device.interval_s for name, device in config.devices.items() if device.interval_s and name in local}
        self._supervisor = self.desk.local = Supervisor(local, self.desk, intervals=intervals)
        self.keeper: Keeper | None = None
        if kept:
            devices = [_kept(name, config.devices[name]) for name in sorted(kept)]
            self.keeper = self.desk.keeper = Keeper(devices, self.desk, drivers_dir=folder)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open all devices. At the end whatever moves is stopped first, and everybody told, then all are closed."""
        keeper = asyncio.create_task(self.keeper.run(), name="keeper") if self.keeper else None
        if keeper is not None:
            keeper.add_done_callback(_tell)
        self._supervisor.start()
        try:
            yield
        finally:
            try:
                await self.desk.close()
            finally:  # whatever failed there, everything is stopped
                if keeper is not None:
                    keeper.cancel()
                    await asyncio.wait({keeper})
                await self._supervisor.close()


def _tell(keeper: asyncio.Task[None]) -> None:
    if not keeper.cancelled() and (error := keeper.exception()):
        _log.critical("the keeper's side in the agent failed; nothing moves until the agent is restarted", exc_info=error)


def _made(name: str, device: DeviceConfig, folder: Path | None) -> Driver:
    return registry.load_device(device.driver, folder)(name, device.options)


def _info(driver: Driver, device: DeviceConfig) -> DeviceInfo:
    info = device_info(driver, title=device.title, group=device.group)
    readings = []
    for reading in info.readings:
        own = device.telemetry.get(reading.name)
        if own is not None and own.dead_band is not None:
            reading = reading.model_copy(update={"dead_band": own.dead_band})
        readings.append(reading)
    return info.model_copy(update={"readings": readings})


def _kept(name: str, device: DeviceConfig) -> wire.KeptDevice:
    limits: Mapping[str, AxisLimits] = device.limits
    return wire.KeptDevice(
        name=name,
        driver=device.driver,
        options=plain_options(device.options),
        group=device.group,
        limits={axis: wire.AxisLimits.model_validate(limit.model_dump(exclude_none=True)) for axis, limit in limits.items()},
        interval_s=device.interval_s,
    )
