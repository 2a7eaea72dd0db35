"""When a board is called too slow for a layer."""

from __future__ import annotations

from edgeagent.core.overload import FEW, LOOK_S, PERIODS, TOO_MANY, Overload

FPS = 30


class Layer:
    """One whose pictures come once a second all together, and somebody who asks as often."""

    def __init__(self) -> None:
        self.overload, self.now = Overload(), 1000.0
        self.run(1)

    def run(self, seconds: int, left_out: float = 0.0, on_purpose: float = 0.0) -> list[bool]:
        told = []
        for _ in range(seconds):
            self.now += 1
            self.overload.left_out += round(FPS * left_out)
            self.overload.shown += round(FPS * (1 - left_out - on_purpose))
            told.append(self.overload.look(FPS, self.now))
        return told


def test_a_board_that_leaves_out_many_pictures_is_told_within_seconds_and_so_is_that_it_recovered() -> None:
    layer = Layer()
    assert not any(layer.run(20))
    told = layer.run(20, left_out=0.5)
    assert PERIODS * LOOK_S - 3 <= told.index(True) <= PERIODS * LOOK_S + 3 and all(told[told.index(True) :])
    told = layer.run(20)
    assert PERIODS * LOOK_S - 3 <= told.index(False) <= PERIODS * LOOK_S + 3 and not any(told[told.index(False) :])


def test_a_moments_load_is_not_told() -> None:
    layer = Layer()
    assert not any(layer.run(3, left_out=0.9) + layer.run(20))
    layer.overload.left_out += 100_000  # a machine that slept: all its pictures at once
    assert not any(layer.run(20))


def test_a_board_at_its_limit_does_not_come_and_go() -> None:
    layer = Layer()
    assert not any(layer.run(60, left_out=(TOO_MANY + FEW) / 2))
    layer.run(20, left_out=0.5)
    assert all(layer.run(60, left_out=(TOO_MANY + FEW) / 2))


def test_pictures_that_are_left_out_for_a_low_bitrate_are_not_the_boards_fault() -> None:
    layer = Layer()
    assert not any(layer.run(30, left_out=0.1, on_purpose=0.85)), "two of three that it tries, three of thirty that there could be"


def test_what_nobody_asked_for_is_forgotten() -> None:
    layer = Layer()
    assert layer.run(20, left_out=0.5)[-1]
    layer.now += 60
    layer.overload.left_out += 900
    assert not any(layer.run(1, left_out=0.5))


def test_of_an_unknown_rate_what_came_is_compared() -> None:
    overload = Overload()
    told = []
    for second in range(30):
        overload.shown += 5
        overload.left_out += 5
        told.append(overload.look(0.0, second))
    assert not told[0] and told[-1]
