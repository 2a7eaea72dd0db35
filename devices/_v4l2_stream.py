"""Pictures from an open V4L2 node: format, buffers, time stamps, and the faults that a USB camera has."""

from __future__ import annotations

__all__ = ["Captured", "NoBandwidth", "Stream", "fault_of", "set_controls"]

import contextlib
import difflib
import errno
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeagent.drivers import DeviceFault, v4l2
from edgeagent_devices._v4l2_find import NO_PERMISSION
from edgeagent_devices._v4l2_modes import Mode

CAPTURE = v4l2.BufferType.CAPTURE
_BUFFERS = 4
_PLAUSIBLE_S = 1.0  # by which a picture may be older than the moment it is taken over
_GONE = {errno.ENODEV, errno.ENXIO, errno.EIO, errno.EPROTO, errno.ENOENT, errno.ESHUTDOWN}


class NoBandwidth(Exception):
    """The USB bus has not enough left for this mode."""


@dataclass(frozen=True, slots=True)
class Captured:
    """One picture as the camera gave it.

    Attributes:
        data: As the mode says.
        captured_at: In seconds of CLOCK_MONOTONIC, never later than now and never before the picture before.
        lost: Pictures that were lost or damaged before it.
        late: Whether older ones waited, and were left out for it.
    """

    data: bytes
    captured_at: float
    lost: int
    late: bool = False


class Stream:
    """A node that delivers pictures, from its making to `close`.

    Args:
        node: Open; `close` closes it, and so does a failure.
        mode: One that the camera offers.

    Raises:
        NoBandwidth: Another mode may do.
        DeviceFault: It does not work, in a sentence.
    """

    def __init__(self, node: v4l2.Node, mode: Mode) -> None:
        self._node = node
        self._memory: list[mmap.mmap] = []
        self._last_at = 0.0
        self._sequence: int | None = None
        self._dropped = 0  # since the last picture that was good
        self.bytes_per_line = 0
        try:
            self._start(mode)
        except OSError as error:
            self.close()
            if error.errno == errno.ENOSPC:
                raise NoBandwidth from error
            raise fault_of(error) from error
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float, clock: Callable[[], float], *, newest: bool) -> Captured | None:
        """The next picture; None where none came in time.

        Args:
            timeout_s: How long to wait.
            clock: CLOCK_MONOTONIC, for pictures whose own stamp cannot be.
            newest: Leave out older ones that wait.

        Raises:
            DeviceFault: The camera has gone.
        """
        try:
            if not self._node.wait(timeout_s):
                return None
            result, lost, late = None, 0, False
            while buffer := self._node.dequeue(CAPTURE):
                taken = self._take(buffer, clock())
                self._node.queue(CAPTURE, buffer)
                if taken and result:
                    lost, late = lost + 1 + result.lost, True
                result = taken or result
                if result and not newest:
                    break
            return Captured(result.data, result.captured_at, result.lost + lost, late) if result else None
        except OSError as error:
            raise fault_of(error) from error

    def close(self) -> None:
        """Stop and give everything back."""
        with contextlib.suppress(OSError):  # it has gone, or was never started
            self._node.stream(CAPTURE, False)
        while self._memory:
            self._memory.pop().close()
        self._node.close()

    def _start(self, mode: Mode) -> None:
        offer, node = mode.offer, self._node
        made = node.set_format(CAPTURE, v4l2.PixelFormat(offer.code, offer.width, offer.height))
        if (made.code, made.width, made.height) != (offer.code, offer.width, offer.height):
            raise DeviceFault(
                f"The camera does not deliver {offer.width}x{offer.height}, although it says so. Write another size or format."
            )
        self.bytes_per_line = made.bytes_per_line
        if offer.rates:
            try:
                node.set_rate(CAPTURE, mode.fps)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTTY):
                    raise
        count = node.request_buffers(CAPTURE, _BUFFERS)
        if not count:
            raise DeviceFault("The camera has no memory for pictures.")
        for index in range(count):
            buffer = node.buffer(CAPTURE, index)
            self._memory.append(node.map(buffer.length, buffer.offset))
            node.queue(CAPTURE, buffer)
        node.stream(CAPTURE, True)

    def _take(self, buffer: v4l2.Buffer, now: float) -> Captured | None:
        lost = self._dropped + (0 if self._sequence is None else max(0, buffer.sequence - self._sequence - 1))
        self._sequence = buffer.sequence
        if buffer.flags & v4l2.BUF_FLAG_ERROR or not buffer.used or buffer.index >= len(self._memory):
            self._dropped = lost + 1
            return None
        self._dropped = 0
        stamp = buffer.time_us / 1e6
        monotonic = buffer.flags & v4l2.BUF_FLAG_TIMESTAMP_MASK == v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC
        captured_at = min(stamp, now) if monotonic and now - _PLAUSIBLE_S < stamp < now + _PLAUSIBLE_S else now
        self._last_at = max(self._last_at, captured_at)
        return Captured(self._memory[buffer.index][: buffer.used], self._last_at, lost)


def fault_of(error: OSError) -> DeviceFault:
    """A failure of a device node as a sentence for its owner."""
    if error.errno in _GONE:
        return DeviceFault("The USB camera was unplugged, or it stopped answering.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeviceFault(NO_PERMISSION)
    if error.errno == errno.EBUSY:
        return DeviceFault("The USB camera is in use by another program; end that program.")
    return DeviceFault(f"The USB camera failed ({error.strerror or error}).")


def set_controls(node: v4l2.Node, wanted: Mapping[str, int | str]) -> None:
    """Set what the owner wants set, in his order (some settings wake others).

    Raises:
        DeviceFault: There is no such setting or value; the sentence says what there is.
    """
    if not wanted:
        return
    try:
        known = {control.name: control for control in node.controls() if not control.flags & v4l2.CTRL_FLAG_READ_ONLY}
    except OSError as error:
        raise fault_of(error) from error
    for name, value in wanted.items():
        control = known.get(name)
        if control is None:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(known) or 'none'}."
            silent = ", or does not answer for it at present" if node.unanswered else ""
            raise DeviceFault(f"The camera has no control `{name}`{silent}; {hint}", retry=node.unanswered)
        number = _value_for(control, value)
        try:
            node.set_control(control.key, number)
        except OSError as error:
            if error.errno in _GONE and not _answers(node):
                raise fault_of(error) from error
            raise DeviceFault(
                f"The camera refuses `{name}: {value}` ({error.strerror}); often another control must be set to manual before it.",
                retry=error.errno in _GONE,  # it may be going just now
            ) from error


def _answers(node: v4l2.Node) -> bool:
    """Whether a device is still there: EIO is also how uvcvideo says that a camera refuses a control."""
    try:
        node.capability()
    except OSError:
        return False
    return True


def _value_for(control: v4l2.Control, value: int | str) -> int:
    if control.menu:
        for number, text in control.menu.items():
            if value == number or str(value).casefold() == text.casefold():
                return number
        there = ", ".join(f"{number} ({text})" for number, text in control.menu.items())
        raise DeviceFault(f"The camera's control `{control.name}` takes one of {there}.", retry=False)
    low, high = (0, 1) if control.kind == v4l2.CTRL_BOOLEAN else (control.minimum, control.maximum)
    if isinstance(value, str) or not low <= value <= high or (control.step > 1 and (value - low) % control.step):
        step = f" in steps of {control.step}" if control.step > 1 else ""
        raise DeviceFault(f"The camera's control `{control.name}` takes a number from {low} to {high}{step}.", retry=False)
    return int(value)
