"""What the control bench makes of what operator and motor have written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import control
from tests.bench.motor import Motor
from tests.bench.operating import VALUE_FROM, VALUE_STEP, Ack, Point, Report, seq_of


@pytest.mark.parametrize("seq", [0, 1, 7, 4_711, 49_999])
def test_a_value_tells_its_set_point(seq: int) -> None:
    assert seq_of(VALUE_FROM + seq * VALUE_STEP) == seq
    assert seq_of(VALUE_FROM + (seq + 0.5) * VALUE_STEP) is None
    assert seq_of(-0.1) is None


def test_figures(tmp_path: Path) -> None:
    def point(seq: int, at: float) -> Point:
        return Point(seq, at, VALUE_FROM + seq * VALUE_STEP)

    driven = Report(
        points=[point(0, 9.0), point(1, 10.0), point(2, 10.02), point(3, 10.04), point(4, 10.06)],
        acks=[
            Ack(0, 9.5, True, "", 0, None),
            Ack(1, 10.004, True, "", 0, None),
            Ack(2, 10.028, True, "", 0, None),
            Ack(4, 10.46, False, "late", 390, None),
        ],
    )
    applied = [(0, 9.1), (1, 10.002), (2, 10.026), (2, 10.03), (3, 10.5)]
    lines = [{"at": at, "what": "apply", "device": "motor", "pid": 1, "throttle": point(seq, 0).value} for seq, at in applied]
    lines += [{"at": 10.6, "what": "apply", "device": "motor", "pid": 1, "throttle": 0.0}]
    lines += [{"at": 10.7, "what": "stop", "device": "motor", "pid": 1}]
    (tmp_path / "lines").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    row = control._figures(driven, Motor(tmp_path), since=9.9, expiry_s=0.3)
    assert (row["sent"], row["applied %"], row["dropped"], row["after expiry"]) == (4, 75, "1 late", 1)
    assert row["median ms"] == pytest.approx(6)
    assert row["worst ms"] == pytest.approx(460)
    assert row["round trip ms"] == pytest.approx(8)
    assert row["round trip p99 ms"] == pytest.approx(400)


def test_the_motor_is_read_as_it_writes(tmp_path: Path) -> None:
    motor = Motor(tmp_path)
    assert motor.lines() == []
    with (tmp_path / "lines").open("a") as file:
        for at, what in (1.0, "stop"), (2.0, "apply"):
            file.write(json.dumps({"at": at, "what": what, "device": "motor", "pid": 7, "throttle": 0.5}) + "\n")
            file.flush()
            assert motor.lines()[-1]["what"] == what
    assert (motor.speed, motor.worker) == (0.5, 7)
    assert motor.first("stop", 1.5) is None
