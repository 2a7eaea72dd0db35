"""The I²C bus for drivers: smbus2 on a board, or `bus: fake`, chips made of software (`_i2c_fake`), to try without hardware."""

from __future__ import annotations

__all__ = ["Address", "Bus", "I2c", "opened", "reachable"]

import contextlib
import errno
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from edgeagent.drivers import DeviceFault

Bus = Annotated[int, Field(ge=0, le=63)] | Literal["fake"]
"""Number of the bus (1 on a Raspberry Pi's header), or `fake`."""
Address = Annotated[int, Field(ge=0x03, le=0x77)]
"""A chip's address, in YAML like 0x76."""


class Registers(Protocol):
    """A bus, of which these calls of smbus2 are used."""

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]: ...
    def write_i2c_block_data(self, i2c_addr: int, register: int, data: list[int]) -> None: ...
    def close(self) -> None: ...


class I2c:
    """One chip on a bus; what goes wrong there becomes a DeviceFault with a sentence."""

    def __init__(self, bus: Registers, number: int | str, address: int, chip: str) -> None:
        self._bus, self._number, self._address, self._chip = bus, number, address, chip

    def read(self, register: int, length: int = 1) -> bytes:
        """Bytes of consecutive registers."""
        with self._faults():
            return bytes(self._bus.read_i2c_block_data(self._address, register, length))

    def write(self, register: int, *data: int) -> None:
        """Set consecutive registers."""
        with self._faults():
            self._bus.write_i2c_block_data(self._address, register, list(data))

    def close(self) -> None:
        """Give the bus back; never raises."""
        with contextlib.suppress(Exception):
            self._bus.close()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"{self._chip} at 0x{self._address:02x} on I²C bus {self._number}"
            if error.errno in (errno.ENXIO, errno.ENODEV, errno.EREMOTEIO, errno.EIO):
                raise DeviceFault(
                    f"No {where} answers: check its wires; `i2cdetect -y {self._number}` shows who is there."
                ) from None
            raise DeviceFault(f"The {where} cannot be reached: {error.strerror or error}.") from None


_DEV = Path("/dev")
_NO_LIBRARY = f"I²C needs smbus2: `{sys.executable} -m pip install smbus2`."


def _no_bus(bus: int | str) -> DeviceFault:
    return DeviceFault(f"There is no I²C bus {bus}: switch it on with `sudo raspi-config nonint do_i2c 0`.")


def _not_allowed(bus: int | str) -> DeviceFault:
    return DeviceFault(f"This user may not use I²C bus {bus}: add him to the group i2c.", retry=False)


def reachable(bus: int | str) -> None:
    """Look whether the bus is there and may be used, without using it.

    Raises:
        DeviceFault: As `opened`.
    """
    if bus == "fake":
        return
    if importlib.util.find_spec("smbus2") is None:
        raise DeviceFault(_NO_LIBRARY, retry=False)
    node = _DEV / f"i2c-{bus}"
    if not node.exists():
        raise _no_bus(bus)
    if not os.access(node, os.R_OK | os.W_OK):
        raise _not_allowed(bus)


def opened(bus: int | str, address: int, chip: str) -> I2c:
    """The chip on its bus.

    Raises:
        DeviceFault: There is no such bus, or it may not be used.
    """
    if bus == "fake":
        from edgeagent_devices._i2c_fake import FakeBus

        return I2c(FakeBus(chip), bus, address, chip)
    try:
        import smbus2
    except ImportError:
        raise DeviceFault(_NO_LIBRARY, retry=False) from None
    try:
        return I2c(smbus2.SMBus(bus), bus, address, chip)
    except FileNotFoundError:
        raise _no_bus(bus) from None
    except PermissionError:
        raise _not_allowed(bus) from None
    except OSError as error:
        raise DeviceFault(f"I²C bus {bus} cannot be opened: {error.strerror or error}.") from None
