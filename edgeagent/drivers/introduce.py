"""A device as viewers are told of it: its driver's axes, readings and commands, known before it is open."""

from __future__ import annotations

__all__ = ["device_info"]

from edgeagent.drivers import commands
from edgeagent.drivers.device import Actuator, Driver, Sensor, commands_of
from edgeagent.wire.control import AxisInfo, CommandInfo, DeviceInfo, ReadingInfo


def device_info(driver: Driver, *, title: str = "", group: str = "") -> DeviceInfo:
    """What `devices` tells of it; the phase is `starting`.

    Raises:
        TypeError: A command of the driver has arguments that cannot be offered.
    """
    axes = driver.axes if isinstance(driver, Actuator) else {}
    readings = driver.readings if isinstance(driver, Sensor) else {}
    moves = isinstance(driver, Actuator) and driver.moves
    return DeviceInfo(
        name=driver.name,
        title=title,
        icon=driver.icon,
        moves=moves,
        group=group if moves else "",
        axes=[
            AxisInfo(
                name=name,
                title=axis.title,
                minimum=axis.minimum,
                maximum=axis.maximum,
                neutral=axis.neutral,
                unit=axis.unit,
                role=axis.role,
                position=axis.position,
            )
            for name, axis in axes.items()
        ],
        readings=[
            ReadingInfo(
                name=name,
                title=reading.title,
                kind=reading.kind,
                unit=reading.unit,
                digits=reading.digits,
                minimum=reading.minimum,
                maximum=reading.maximum,
                warn_below=reading.warn_below,
                warn_above=reading.warn_above,
                stop_below=reading.stop_below,
                dead_band=reading.dead_band,
            )
            for name, reading in readings.items()
        ],
        commands=[
            CommandInfo(name=name, title=marks["title"], danger=marks["danger"], arguments=commands.schema_of(driver, name))
            for name, marks in commands_of(driver).items()
        ],
    )
