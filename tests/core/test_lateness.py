"""The smallest delay lately: against a plain list, with clocks that drift and senders that sleep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.lateness import Lateness

WINDOW_S, SILENCE_S = 30.0, 1.0


def test_the_first_message_is_on_time_and_a_later_one_is_late_by_what_it_was_held_up() -> None:
    lateness = Lateness()
    assert lateness.take(5_000.0, 10.0) == 0
    assert lateness.take(5_000.1, 10.4) == pytest.approx(0.3)
    assert lateness.take(5_000.5, 10.5) == pytest.approx(0)


def test_a_path_that_became_slower_counts_as_late_until_the_window_has_forgotten() -> None:
    lateness = Lateness()
    late = [lateness.take(n / 20, n / 20 + (0.02 if n < 20 else 0.12)) for n in range(20 * 40)]
    assert late[20 * 25] == pytest.approx(0.1)
    assert late[-1] == pytest.approx(0)


def test_a_clock_that_drifts_is_forgiven() -> None:
    lateness = Lateness()
    for ppm in (-200, 200):
        assert max(lateness.take(n / 20 * (1 + ppm / 1e6), n / 20) for n in range(20 * 120)) < 0.007


def test_a_sender_whose_clock_stood_still_while_it_slept_is_known_again_after_a_while() -> None:
    lateness = Lateness(settle_s=0.3)
    for n in range(40):
        lateness.take(n / 20, n / 20)
    assert lateness.settled
    late, settled = [], []
    for n in range(40, 60):  # five seconds of sleep, of which the sender's clock knows nothing
        late.append(lateness.take(n / 20, n / 20 + 5))
        settled.append(lateness.settled)
    assert max(late) == pytest.approx(0)
    assert settled.index(True) in (6, 7)


def test_what_was_queued_meanwhile_settles_nothing_before_fresh_messages_show_how_old_it_was() -> None:
    lateness = Lateness(settle_s=0.3)
    lateness.take(0, 0)
    burst = [(n / 20, 3.0 + n / 2000) for n in range(60)]  # sent over 3 s, all of it arrives within 30 ms
    for sent, now in burst:
        lateness.take(sent, now)
        assert not lateness.settled
    assert lateness.take(0.1, 3.05) > 2.8


@given(
    st.lists(
        st.tuples(st.sampled_from([0.001, 0.02, 0.05, 0.4, 0.9, 1.0, 1.1, 5.0, 40.0]), st.floats(-2, 2, allow_nan=False)),
        min_size=1,
        max_size=120,
    )
)
def test_against_a_plain_list(steps: list[tuple[float, float]]) -> None:
    lateness = Lateness(WINDOW_S, SILENCE_S)
    now, seen = 100.0, list[tuple[float, float]]()
    for gap, delay in steps:
        now += gap
        if gap > SILENCE_S:
            seen.clear()
        seen.append((now, delay))
        late = lateness.take(now - delay, now)
        surely = [d for at, d in seen if at > now - WINDOW_S + WINDOW_S / 30]
        maybe = [d for at, d in seen if at > now - WINDOW_S - WINDOW_S / 30]
        assert delay - min(surely) - 1e-6 <= late <= delay - min(maybe) + 1e-6
        assert late >= -1e-9
        assert len(lateness._least) <= 31
