from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.core.layers import (
    AWAY_S,
    MOST_AWAY_S,
    TOGETHER,
    TOGETHER_YET,
    YET_S,
    LayerFacts,
    Planner,
    Share,
    Want,
    low_layer,
    picture_rate,
    plan,
)

MAIN, LOW = LayerFacts("main", 3e6, 0.75 * 1e6), LayerFacts("low", 1e6)
FIXED = (LayerFacts("main", 4e6, live=False), LayerFacts("sub", 0.5e6, live=False))


@pytest.mark.parametrize(
    ("wants", "rates", "shares"),
    [
        ([Want(None)], {"main": 3e6}, [Share("main")]),
        ([Want(9e6)], {"main": 3e6}, [Share("main")]),
        ([Want(2e6)], {"main": 2e6}, [Share("main")]),  # one alone gets what he can take
        ([Want(2e6), Want(1.8e6)], {"main": 1.8e6}, [Share("main"), Share("main")]),
        (
            [Want(3e6), Want(0.9e6)],
            {"main": 3e6, "low": 0.9e6},
            [Share("main"), Share("low")],
        ),  # a slow one softens nobody's picture
        ([Want(3e6), Want(0.2e6, "main")], {"main": 3e6, "low": 0.2e6}, [Share("main"), Share("low")]),
        ([Want(0.6e6)], {"low": 0.6e6}, [Share("low")]),
        ([Want(0.6e6, "main")], {"main": 0.6e6}, [Share("main")]),  # each change costs a keyframe
        ([Want(3e6, wish="low")], {"low": 1e6}, [Share("low")]),
        ([Want(0.6e6, wish="main")], {"main": 0.6e6}, [Share("main")]),
        ([Want(3e6), Want(0.6e6, wish="main")], {"main": 3e6}, [Share("main"), Share("main", 0.6e6)]),
        ([Want(3e6, wish="gone")], {"main": 3e6}, [Share("main")]),
        ([Want(0.9e6), Want(0.1e6), Want(3e6)], {"main": 3e6, "low": 0.9e6}, [Share("low"), Share("low", 0.1e6), Share("main")]),
    ],
)
def test_layers_that_are_encoded_here(wants: list[Want], rates: dict[str, float], shares: list[Share]) -> None:
    assert plan([MAIN, LOW], dict(enumerate(wants))) == (rates, dict(enumerate(shares)))


@pytest.mark.parametrize(
    ("want", "share"),
    [
        (Want(4.3e6), Share("sub")),  # to climb takes a little more than the layer has
        (Want(4.3e6, "main"), Share("main")),
        (Want(3e6, "main"), Share("sub")),
        (Want(0.3e6), Share("sub", 0.3e6)),
        (Want(2e6, wish="main"), Share("main", 2e6)),
    ],
)
def test_layers_of_an_ip_camera(want: Want, share: Share) -> None:
    assert plan(FIXED, {0: want}) == ({}, {0: share})


layer_facts = st.builds(
    lambda rates, live: [
        LayerFacts(name, rate, 0.75 * below, live)
        for name, rate, below in zip(("best", "middle", "least"), rates, [*rates[1:], 0.0], strict=False)
    ],
    st.lists(st.floats(5e4, 2e7), min_size=1, max_size=3).map(lambda rates: sorted(rates, reverse=True)),
    st.booleans(),
)
wishes = st.sampled_from(["auto", "auto", "auto", "best", "middle", "least", "gone"])
viewers = st.dictionaries(
    st.integers(0, 9),
    st.builds(Want, st.none() | st.floats(6e4, 3e7), st.sampled_from(["", "best", "middle", "least", "gone"]), wishes),
    max_size=8,
)


def usable(want: Want, layer: LayerFacts) -> float:
    return layer.max_bps if want.usable_bps is None else min(want.usable_bps, layer.max_bps)


@given(layer_facts, viewers)
def test_everybody_gets_a_share_and_nobody_more_than_he_can_take(layers: list[LayerFacts], wants: dict[int, Want]) -> None:
    rates, shares = plan(layers, wants)
    known = {layer.name: layer for layer in layers}
    assert shares.keys() == wants.keys()
    assert rates.keys() == {share.layer for share in shares.values() if known[share.layer].live}
    for name, rate in rates.items():
        assert 0 < rate <= known[name].max_bps
    for key, want in wants.items():
        share = shares[key]
        if want.wish in known:
            assert share.layer == want.wish
        rate = rates.get(share.layer, known[share.layer].max_bps)
        if share.thin_bps is None:
            assert usable(want, known[share.layer]) >= 0.8 * rate
        else:
            assert share.thin_bps == want.usable_bps
            assert share.thin_bps < rate


@given(layer_facts, viewers)
def test_who_can_take_most_loses_little_by_the_others(layers: list[LayerFacts], wants: dict[int, Want]) -> None:
    free = {key: want for key, want in wants.items() if want.wish not in [layer.name for layer in layers]}
    if not free:
        return
    best = max(free, key=lambda key: usable(free[key], layers[0]))
    alone_rates, alone = plan(layers, {best: free[best]})
    rates, shares = plan(layers, free)
    assert shares[best] == alone[best]
    for layer, rate in alone_rates.items():
        assert rates[layer] >= TOGETHER * rate * 0.999999


@given(layer_facts, viewers)
def test_the_same_networks_keep_the_same_layers(layers: list[LayerFacts], wants: dict[int, Want]) -> None:
    first = plan(layers, wants)
    settled = {key: Want(want.usable_bps, first[1][key].layer, want.wish) for key, want in wants.items()}
    assert plan(layers, settled) == first


class Watching:
    """Viewers whose usable rates are functions of the time, planned for ten times a second; `changes`: who took what when."""

    def __init__(self, usable: dict[str, Callable[[float], float]], layers: Sequence[LayerFacts] = (MAIN, LOW)) -> None:
        self.planner: Planner[str] = Planner()
        self.usable, self.layers = usable, layers
        self.now = 1000.0
        self.current = dict.fromkeys(usable, "")
        self.wish = dict.fromkeys(usable, "auto")
        self.changes: list[tuple[float, str, str]] = []
        self.rates: dict[str, float] = {}

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            wants = {key: Want(of(self.now - 1000.0), self.current[key], self.wish[key]) for key, of in self.usable.items()}
            self.rates, shares = self.planner.plan(self.layers, wants, self.now)
            for key, share in shares.items():
                if self.current[key] not in ("", share.layer):
                    self.changes.append((round(self.now - 1000.0, 1), key, share.layer))
                self.current[key] = share.layer
            self.now += 0.1


def saw(most: float, phase_s: float = 0.0) -> Callable[[float], float]:
    """What an estimate does on a steady path: it rises for 8 s, and falls by three tenths."""
    return lambda at: most * (0.7 + 0.3 * ((at + phase_s) % 8.0) / 8.0)


@pytest.mark.parametrize("phase_s", [0.0, 0.1, 0.7, 1.6])
def test_two_viewers_with_like_networks_stay_together(phase_s: float) -> None:
    watching = Watching({"a": saw(2.5e6), "b": saw(2.5e6, phase_s)})
    watching.run(120.0)
    assert watching.changes == []


def test_who_falls_again_and_again_returns_less_and_less_often() -> None:
    watching = Watching({"a": saw(2.4e6), "b": saw(2.0e6, 4.0)})
    watching.run(300.0)
    assert {key for _, key, _ in watching.changes} == {"b"}
    falls = [at for at, _, layer in watching.changes if layer == "low"]
    climbs = [at for at, _, layer in watching.changes if layer == "main"]
    away = [climb - fall for fall, climb in zip(falls, climbs, strict=False)]
    assert away[0] < AWAY_S
    for number, seconds in enumerate(away[1:]):
        least = min(MOST_AWAY_S, AWAY_S * 2**number)
        assert least - 0.1 < seconds <= least + 10.0
    assert len(away) >= 6
    watching.usable["b"] = watching.usable["a"]  # a better network: whoever stays is as one who never fell
    watching.run(2 * MOST_AWAY_S + 10.0)
    assert watching.current["b"] == "main"
    watching.changes.clear()
    watching.usable["b"] = lambda at: 1e6
    watching.run(5.0)
    watching.usable["b"] = watching.usable["a"]
    watching.run(1.0)
    assert [layer for _, _, layer in watching.changes] == ["low", "main"]


def test_who_is_alone_on_a_layer_or_wishes_it_returns_at_once() -> None:
    watching = Watching({"a": lambda at: 3e6, "b": lambda at: 0.3e6 if at % 10.0 < 5.0 else 3e6})
    watching.run(22.0)
    assert [(key, layer) for _, key, layer in watching.changes] == [("b", "main"), ("b", "low"), ("b", "main"), ("b", "low")]
    watching.run(4.0)
    assert watching.current["b"] == "low", "the second time within a minute"
    watching.wish["b"] = "main"
    watching.run(0.1)
    assert watching.current["b"] == "main"
    watching.wish["b"] = "low"
    watching.run(0.1)
    watching.wish["b"] = "auto"
    watching.run(0.1)
    del watching.usable["a"]
    watching.run(0.1)
    assert watching.current["b"] == "main"
    watching.changes.clear()
    watching.run(40.0)
    assert [at % 10.0 for at, _, layer in watching.changes if layer == "main"] == pytest.approx([5.0] * 4, abs=0.11)


def test_who_is_a_little_behind_has_a_moment_in_which_the_others_wait_for_him_and_who_is_far_behind_has_not() -> None:
    behind_bps = 3e6
    watching = Watching({"a": lambda at: 3e6, "b": lambda at: behind_bps})
    watching.run(1.0)
    behind_bps = 3e6 * (TOGETHER_YET + 0.01)
    watching.run(YET_S)
    assert watching.current["b"] == "main" and watching.rates == {"main": behind_bps}
    assert watching.planner.due_at < watching.now + 0.11
    watching.run(0.2)
    assert watching.current["b"] == "low" and watching.rates["main"] == 3e6
    behind_bps = 3e6
    watching.run(1.0)
    assert watching.current["b"] == "main" and watching.planner.due_at == float("inf")
    behind_bps = 3e6 * (TOGETHER_YET - 0.01)
    watching.run(0.1)
    assert watching.current["b"] == "low" and watching.rates["main"] == 3e6
    assert watching.planner.due_at == pytest.approx(watching.now - 0.1 + AWAY_S)


@settings(max_examples=30)
@given(layer_facts, st.lists(viewers, max_size=6), st.lists(st.floats(0.0, 30.0), min_size=6, max_size=6))
def test_whatever_came_before_everybody_gets_a_share_that_he_can_take(
    layers: list[LayerFacts], moments: list[dict[int, Want]], pauses: list[float]
) -> None:
    planner: Planner[int] = Planner()
    now, known, current = 0.0, {layer.name: layer for layer in layers}, dict[int, str]()
    for wants, pause in zip(moments, pauses, strict=False):
        wants = {key: Want(want.usable_bps, current.get(key, ""), want.wish) for key, want in wants.items()}
        rates, shares = planner.plan(layers, wants, now)
        assert shares.keys() == wants.keys()
        assert planner.due_at > now
        for key, want in wants.items():
            rate = rates.get(shares[key].layer, known[shares[key].layer].max_bps)
            assert shares[key].layer == want.wish or want.wish not in known
            assert shares[key].thin_bps is not None or usable(want, known[shares[key].layer]) >= 0.8 * rate
        current = {key: share.layer for key, share in shares.items()}
        now += pause


@given(st.integers(32, 4096), st.integers(32, 2304), st.integers(100_000, 20_000_000))
def test_the_small_layer_is_smaller_in_all(width: int, height: int, bitrate: int) -> None:
    small = low_layer(width, height, bitrate)
    if small is None:
        assert width * height <= 480 * 360
        return
    assert small[0] % 2 == small[1] % 2 == 0
    assert 0 < small[0] <= width / 2 and 0 < small[1] <= height / 2
    assert 150_000 <= small[2] <= max(150_000, bitrate / 2)


def test_usual_small_layers() -> None:
    assert low_layer(320, 240, 500_000) is None
    assert low_layer(1280, 720, 3_000_000) == (640, 360, 1_060_660)
    assert low_layer(1920, 1080, 6_000_000) == (960, 540, 2_121_320)
    assert low_layer(3840, 2160, 16_000_000) == (960, 540, 2_000_000)


@given(st.integers(32, 4096), st.integers(32, 2304), st.floats(1, 120), st.floats(3e4, 2e7), st.floats(1, 4))
def test_fewer_pictures_only_where_bits_are_few(width: int, height: int, fps: float, bitrate: float, more: float) -> None:
    rate = picture_rate(width, height, fps, bitrate)
    assert min(fps, 5.0) <= rate <= fps
    assert rate <= picture_rate(width, height, fps, bitrate * more)


def test_usual_picture_rates() -> None:
    assert picture_rate(640, 360, 30, 300_000) == 30
    assert picture_rate(640, 360, 30, 69_120) == pytest.approx(15)
    assert picture_rate(1280, 720, 30, 60_000) == 5
    assert picture_rate(640, 360, 2, 30_000) == 2
