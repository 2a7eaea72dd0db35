from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.silence import DEAD_S, SILENT_S, SilenceWatch, Verdict


def verdicts(watch: SilenceWatch, seconds: int, *, start: int = 0, sending: bool = True) -> list[Verdict]:
    """Look once a second; packets leave until the watch says otherwise."""
    out: list[Verdict] = []
    sent = start
    for second in range(start + 1, start + seconds + 1):
        if sending and (not out or out[-1] is Verdict.SEND):
            sent += 30
        out.append(watch.check(sent, float(second)))
    return out


def test_sending_stops_at_five_seconds_and_the_peer_is_dead_at_fifteen() -> None:
    assert verdicts(SilenceWatch(0.0), 16) == [Verdict.SEND] * 4 + [Verdict.MUTE] * 10 + [Verdict.DEAD] * 2


def test_a_report_is_a_sign_of_life() -> None:
    watch = SilenceWatch(0.0)
    assert verdicts(watch, 7)[-1] is Verdict.MUTE
    assert watch.heard(7.5)
    assert not watch.heard(7.6)
    assert watch.check(1000, 8.0) is Verdict.SEND


def test_where_nothing_is_sent_nothing_is_expected() -> None:
    assert set(verdicts(SilenceWatch(0.0), 3600, sending=False)) == {Verdict.SEND}


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.integers(0, 50)), max_size=60))
def test_whoever_is_heard_every_few_seconds_is_never_cut_off(steps: list[tuple[float, bool, int]]) -> None:
    watch, now, sent, heard_at = SilenceWatch(0.0), 0.0, 0, 0.0
    for wait, heard, packets in steps:
        now += wait
        if heard:
            watch.heard(now)
            heard_at = now
        sent += packets
        verdict = watch.check(sent, now)
        if now - heard_at < SILENT_S:
            assert verdict is Verdict.SEND
        if now - heard_at < DEAD_S:
            assert verdict is not Verdict.DEAD
