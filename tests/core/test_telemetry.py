"""What viewers are told of readings: in time, not too often, in the end always the newest; and the alarms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.alarms import Alarms
from edgeagent.core.telemetry import Intervals, Telemetry, TelemetryPolicy
from edgeagent.wire.codec import encode
from edgeagent.wire.control import ReadingInfo, ReadingsMessage
from tests.support.control import BATTERY, LAMP, ROVER, device

POLICY = TelemetryPolicy()
STATION = device(
    "station",
    readings=[
        ReadingInfo(name="temperature", unit="°C", dead_band=0.5),
        ReadingInfo(name="door", kind="flag"),
        ReadingInfo(name="words", kind="text"),
        ReadingInfo(name="steps", digits=0),
    ],
)
values = st.one_of(
    st.tuples(st.just("temperature"), st.sampled_from([20.0, 20.4, 20.6, 21.0, 25.0])),
    st.tuples(st.just("door"), st.booleans()),
    st.tuples(st.just("words"), st.text(max_size=300)),
    st.tuples(st.just("steps"), st.integers(0, 2)),
)


def told(telemetry: Telemetry, now: float) -> dict[tuple[str, str], Any]:
    return {(d, n): v for batch in telemetry.flush(now) for d, readings in batch.values.items() for n, v in readings.items()}


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.03, 0.1, 0.5, 6.0]), values), min_size=1, max_size=60))
def test_the_newest_value_always_arrives_never_too_often_and_never_too_late(steps: list[tuple[float, tuple[str, Any]]]) -> None:
    telemetry = Telemetry([STATION])
    now, newest = 50.0, dict[tuple[str, str], Any]()
    seen: dict[tuple[str, str], tuple[float, Any]] = {}
    read_at: dict[tuple[str, str], float] = {}

    def run_to(end: float) -> None:
        nonlocal now
        while (due := telemetry.next_deadline()) is not None and due <= end:
            now = max(now, due)
            for key, value in told(telemetry, now).items():
                if key in seen:
                    assert now - seen[key][0] >= POLICY.min_interval_s - 1e-9
                assert value == newest[key]
                seen[key] = (now, value)
            due = telemetry.next_deadline()
            assert due is None or due > now, "what was due is done"
        now = end

    for gap, (name, value) in steps:
        run_to(now + gap)
        telemetry.update({"station": {name: value}})
        key = ("station", name)
        newest[key] = value[:200] if name == "words" else value
        read_at[key] = now
        last_at, last = seen.get(key, (-math.inf, None))
        significant = last is None or (abs(value - last) > 0.5 if name == "temperature" else newest[key] != last)
        due = telemetry.next_deadline()
        assert due is not None
        # Not before the next tick, and at the latest when this reading must be told.
        assert due <= max(last_at + (POLICY.min_interval_s if significant else POLICY.max_interval_s), now + POLICY.tick_s)
    run_to(now + POLICY.max_interval_s + POLICY.tick_s)
    assert {key: value for key, (_, value) in seen.items()} == newest
    assert telemetry.next_deadline() is None, "an old value is not told again"


def test_a_sign_of_life_while_nothing_changes() -> None:
    telemetry = Telemetry([STATION])
    times = []
    for n in range(200):
        telemetry.update({"station": {"temperature": 20 + 0.1 * (n % 2)}})
        times += [n / 10] if told(telemetry, n / 10) else []
    assert times == pytest.approx([0, 5, 10, 15])


def test_what_was_not_declared_or_cannot_be_sent_is_left_out_and_counted() -> None:
    telemetry = Telemetry([STATION])
    telemetry.update(
        {"ghost": {"x": 1.0}, "station": {"x": 1.0, "temperature": math.nan, "door": 1.0, "words": 5, "steps": 10**400}}
    )
    telemetry.update({"station": {"temperature": True, "words": "\ud800"}})
    assert told(telemetry, 0.0) == {("station", "words"): "?"}
    assert (telemetry.counters.unknown, telemetry.counters.unfit) == (2, 5)


@given(st.lists(st.text(max_size=400), min_size=1, max_size=30), st.integers(1, 40))
def test_a_message_stays_below_the_limit_and_holds_all(texts: list[str], name_length: int) -> None:
    infos = [device(f"d{n}" + "x" * name_length, readings=[ReadingInfo(name="a", kind="text")]) for n in range(len(texts))]
    telemetry = Telemetry(infos)
    telemetry.update({info.name: {"a": text} for info, text in zip(infos, texts, strict=True)})
    batches = telemetry.flush(0.0)
    for batch in batches:
        message = encode(ReadingsMessage(at=1.7e12, values={d: dict(v) for d, v in batch.values.items()}))
        size = len(message.encode())
        assert size <= 1_100 or (len(list(batch.keys())) == 1 and size < 1_500)
    assert sorted(itertools.chain.from_iterable(batch.keys() for batch in batches)) == sorted((info.name, "a") for info in infos)


def test_a_viewer_whose_channel_is_full_gets_the_newest_later_and_a_newcomer_all() -> None:
    telemetry = Telemetry([STATION])
    for viewer in ("deaf", "fine"):
        telemetry.came(viewer)
    for n in range(5):
        telemetry.update({"station": {"steps": n, "door": n > 2}})
        for batch in telemetry.flush(float(n)):
            telemetry.missed("deaf", batch)
            telemetry.sent("fine", batch)
    assert telemetry.owed("fine") == []
    assert telemetry.next_deadline() == pytest.approx(4.1)
    (owed,) = telemetry.owed("deaf")
    assert owed.values == {"station": {"door": True, "steps": 4.0}}
    telemetry.sent("deaf", owed)
    assert telemetry.owed("deaf") == []
    assert telemetry.counters.missed == 5
    telemetry.came("new")
    assert [batch.values for batch in telemetry.owed("new")] == [owed.values]
    telemetry.forget("station")
    assert telemetry.owed("new") == []
    telemetry.gone("new")
    assert list(telemetry.viewers) == ["deaf", "fine"]


def test_an_alarm_begins_and_ends_once() -> None:
    alarms = Alarms([BATTERY, ROVER, LAMP])
    heard = [
        (volts, alarm.on, alarm.level)
        for volts in (12.0, 11.0, 10.99, 11.01, 10.95, 11.2, 11.25, 9.99, 10.1, 10.15, 10.25, 12.0)
        for alarm in alarms.update({"battery": {"voltage": volts}, "lamp": {"on": True}, "rover": {"speed": math.nan}})
    ]
    assert heard == [
        (10.99, True, "warning"),
        (11.25, False, "warning"),
        (9.99, True, "danger"),
        (10.25, True, "warning"),
        (12.0, False, "warning"),
    ]
    assert alarms.on == []


def test_a_newcomer_is_told_what_is_on() -> None:
    alarms = Alarms([device("oven", title="Oven", readings=[ReadingInfo(name="heat", unit="°C", digits=0, warn_above=200)])])
    alarms.update({"oven": {"heat": 230.0}})
    assert [alarm.text for alarm in alarms.on] == ["heat of Oven is 230 °C, above 200 °C."]
    assert alarms.update({"oven": {"heat": "hot"}}) == []


def test_the_owner_says_how_often_one_reading_is_told() -> None:
    own = {("station", "steps"): Intervals(min_s=2.0, max_s=1.0), ("station", "temperature"): Intervals(max_s=0.5)}
    telemetry = Telemetry([STATION], intervals=own)
    at: dict[str, list[float]] = {"steps": [], "temperature": [], "words": []}
    for tick in range(51):
        telemetry.update({"station": {"steps": tick, "temperature": 20.0, "words": "still"}})
        for _, name in told(telemetry, tick / 10):
            at[name].append(tick / 10)
    assert at["steps"] == [0, 2, 4], "not more often, though it changes all the time"
    assert at["temperature"] == [tick / 10 for tick in range(0, 51, 5)], "as a sign of life"
    assert at["words"] == [0, 5], "as ever"
