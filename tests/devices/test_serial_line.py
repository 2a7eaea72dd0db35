"""A board on a serial line, which is a pseudo-terminal here: what it says, what it is told, and how it goes."""

from __future__ import annotations

import json
import os
import tty
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeagent.drivers import DeviceFault
from edgeagent.drivers.conformance import assert_device_conforms
from edgeagent.drivers.device import Reading
from edgeagent_devices.serial_line import COUNTS_S, MAX_LINE, Decoder, SerialLine
from tests.support.procs import wait_until

READINGS = {"temperature": {"unit": "°C"}, "door": {"kind": "flag"}, "state": {"kind": "text"}}
AXES = {"throttle": {"role": "throttle"}, "arm": {"minimum": 0, "maximum": 180, "neutral": 90, "position": True}}
DECLARED = {"temperature": Reading(), "door": Reading(kind="flag"), "state": Reading(kind="text")}


class Board:
    """The other end of the line."""

    def __init__(self) -> None:
        self._end, self._port = os.openpty()
        tty.setraw(self._end)
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)
        os.set_blocking(self._end, False)
        self._heard = b""

    def say(self, *lines: Any) -> None:
        for line in lines:
            os.write(self._end, (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")

    def heard(self) -> list[Any]:
        """All that it was told so far."""
        try:
            while data := os.read(self._end, 4096):
                self._heard += data
        except BlockingIOError:
            pass
        return [json.loads(line) for line in self._heard.split(b"\n")[:-1]]

    def unplug(self) -> None:
        for end in (self._end, self._port):
            os.close(end)
        self._end = self._port = -1

    def close(self) -> None:
        if self._end >= 0:
            self.unplug()


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.close()


def line(board: Board, **options: Any) -> SerialLine:
    made = SerialLine("arduino", SerialLine.Options(**({"port": board.path, "readings": READINGS, "axes": AXES} | options)))
    made.open()
    return made


def test_readings_come_and_axes_go(board: Board) -> None:
    made = line(board, alive_s=0.05)
    woken: list[None] = []
    made.wake = lambda: woken.append(None)
    try:
        board.say({"temperature": 21.5, "door": True}, {"state": "ready", "unknown": 1})
        wait_until(lambda: made.read() == {"temperature": 21.5, "door": True, "state": "ready"}, "the readings")
        assert woken
        made.apply({"throttle": 0.5, "arm": 120.0})
        made.call("beep", 2.0)
        made.stop()
        expected = [{"stop": True}, {"throttle": 0.5, "arm": 120.0}, {"call": "beep", "args": {"value": 2.0}}, {"stop": True}]
        wait_until(lambda: [m for m in board.heard() if m != {"alive": True}] == expected, "what the board is told")
        wait_until(lambda: {"alive": True} in board.heard(), "the sign of life")
    finally:
        made.close()
    assert board.heard()[-1] == {"stop": True}, "the last word"
    made.close()


class SlowPort:
    """A port that takes whatever is written at once, and puts it on the line byte by byte, as a UART does."""

    def __init__(self, baud: int) -> None:
        self.now, self._sent_to, self._byte_s, self._waiting = 0.0, 0.0, 10 / baud, b""
        self.told: list[tuple[float, bytes]] = []

    def write(self, data: bytes) -> None:
        self._waiting += data

    @property
    def out_waiting(self) -> int:
        return len(self._waiting)

    def reset_output_buffer(self) -> None:
        self._waiting = b""

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        count = int((self.now - self._sent_to) / self._byte_s)
        sent, self._waiting = self._waiting[:count], self._waiting[count:]
        self._sent_to = self._sent_to + count * self._byte_s if self._waiting else self.now
        self.told.append((self.now, sent))


@pytest.mark.parametrize("flushes", [True, False])
def test_on_a_slow_line_a_stop_waits_behind_no_old_set_points(flushes: bool) -> None:
    """9600 baud carry a set-point of two axes in 30 to 45 ms; 50 come in a second."""
    made = SerialLine("arduino", SerialLine.Options(port="/dev/null", baud=9600, axes=AXES))
    made._port = port = SlowPort(9600)
    made._clock = lambda: port.now
    if not flushes:
        port.reset_output_buffer = lambda: None  # type: ignore[method-assign]  # as an adapter that has taken it all
    for number in range(500):
        made.apply({"throttle": number / 500, "arm": 120.1234})
        port.pass_time(0.02)
    driven = b"".join(data for _, data in port.told).split(b"\n")[:-1]
    assert len(driven) > 150, "the line is used"
    assert json.loads(driven[-1])["throttle"] > 0.98, "what is carried is new"
    stopped_at = port.now
    made.stop()
    port.told.clear()
    while port.out_waiting:
        port.pass_time(0.01)
    assert port.now - stopped_at <= (0.03 if flushes else 0.1)
    assert b"".join(data for _, data in port.told).endswith(b'\n{"stop":true}\n')


def test_a_battery_of_which_the_board_says_no_more_is_not_known() -> None:
    now = 0.0
    decoder = Decoder({"battery": Reading(stop_below=6.4), "temperature": Reading()}, lambda: now)
    decoder.take(b'{"battery": 7.4, "temperature": 20}\n')
    now = COUNTS_S - 0.1
    assert decoder.values() == {"battery": 7.4, "temperature": 20}
    decoder.take(b'{"temperature": 21}\n')
    now = COUNTS_S
    assert decoder.values() == {"temperature": 21}
    decoder.take(b'{"battery": 7.3}\n')
    assert decoder.values() == {"battery": 7.3, "temperature": 21}


def test_conforms(board: Board) -> None:
    assert_device_conforms(SerialLine, {"port": board.path, "readings": READINGS, "axes": AXES})


def test_a_board_that_is_unplugged(board: Board) -> None:
    made = line(board)
    board.unplug()
    with pytest.raises(DeviceFault, match=r"is gone|takes nothing"):
        wait_until(lambda: made.read() is None, "the fault")
    made.close()
    with pytest.raises(DeviceFault, match="cannot be opened"):
        made.open()
    made.close()


def test_a_board_that_says_nothing(board: Board) -> None:
    made = line(board, alive_s=0.05, silence_s=0.1)
    with pytest.raises(DeviceFault, match="said nothing"):
        wait_until(lambda: made.read() is None, "the fault")
    made.close()


def test_a_port_that_is_not_there() -> None:
    made = SerialLine("arduino", SerialLine.Options(port="/dev/ttyNONE"))
    with pytest.raises(DeviceFault, match="is it plugged in"):
        made.open()
    made.close()


@pytest.mark.parametrize(
    "said", [b"{", b"[1]", b"nonsense", b"\xff\xfe", b"{" * 900, b'{"temperature": NaN}', b'{"temperature": true}', b'{"door": 1}']
)
def test_what_is_not_understood_is_left_out(said: bytes) -> None:
    decoder = Decoder(DECLARED)
    assert not decoder.take(said + b"\n")
    assert decoder.refused == 1
    assert decoder.take(b'{"temperature": 1}\n')
    assert decoder.values() == {"temperature": 1}


def test_a_line_without_an_end_is_not_kept() -> None:
    decoder = Decoder(DECLARED)
    for _ in range(100):
        decoder.take(b"x" * 500)
    assert len(decoder._rest) <= MAX_LINE
    assert decoder.take(b'\n{"temperature": 2}\n')


@given(st.lists(st.binary(max_size=200)))
def test_whatever_comes(parts: list[bytes]) -> None:
    decoder = Decoder(DECLARED)
    for part in parts:
        decoder.take(part)
    assert decoder.values().keys() <= DECLARED.keys()


@given(st.lists(st.sampled_from([b'{"temperature":', b" 3}", b"\n", b'{"door": true}\n', b"x"]), max_size=30), st.integers(1, 7))
def test_however_it_is_cut(parts: list[bytes], size: int) -> None:
    whole, cut = Decoder(DECLARED), Decoder(DECLARED)
    data = b"".join(parts)
    whole.take(data)
    for start in range(0, len(data), size):
        cut.take(data[start : start + size])
    assert (whole.values(), whole.refused) == (cut.values(), cut.refused)


def test_wrong_options() -> None:
    with pytest.raises(ValidationError, match="between minimum and maximum"):
        SerialLine.Options(port="/dev/null", axes={"a": {"neutral": 5}})


def test_a_reading_that_tells_a_place_has_no_limits() -> None:
    """People see it inverted where the owner has inverted the axis."""

    def options(of_axis: str, **reading: Any) -> SerialLine.Options:
        axis = {"position": True, "unit": of_axis}
        return SerialLine.Options.model_validate({"port": "/dev/null", "axes": {"pan": axis}, "readings": {"pan": reading}})

    with pytest.raises(ValidationError, match="the reading pan tells where the axis pan is"):
        options("°", unit="°", stop_below=-60)
    options("", unit="V", stop_below=6)
    made = SerialLine("arduino", options("°", unit="°"))
    assert made.axes["pan"].unit == made.readings["pan"].unit == "°"
