"""Which layer each viewer gets, at what rate each is encoded, and what the camera is told of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from edgeagent.core.layers import YET_S, Share
from edgeagent.media.hub import SILENT_FOR_S, SILENT_S, Hub
from edgeagent.media.packetize import Packets
from edgeagent.model import Capabilities, EncodedFrame, StreamInfo
from tests.media.test_hub import IDR, SLICE, Source

ENCODED = Capabilities(keyframe_on_demand=True, live_bitrate=True, layers=("main", "low"), bitrates=(3_000_000, 1_000_000))
FIXED = Capabilities(layers=("main", "sub"))
UNSURE = Capabilities(layers=("main", "low"))


class Viewer:
    """Attaches to what it is assigned, as a sender does."""

    def __init__(self, hub: Hub, usable_bps: float | None, wish: str = "auto") -> None:
        self.hub = hub
        self.assigned: list[Share] = []
        self.share = hub.watch(self, usable_bps, wish)
        hub.attach(self, self.share.layer)

    def deliver(self, packets: Packets) -> None: ...
    def left_out(self) -> None: ...

    def assign(self, share: Share) -> None:
        self.assigned.append(share)
        self.hub.attach(self, share.layer)
        if share.layer != self.share.layer:
            self.hub.detach(self, self.share.layer)
        self.share = share

    def leave(self) -> None:
        self.hub.unwatch(self)
        self.hub.detach(self, self.share.layer)


def make(can: Capabilities = ENCODED) -> tuple[Hub, Source]:
    hub, source = Hub("cam", can), Source()
    hub.connect(source)
    return hub, source


def frame(n: int, layer: str, size: int = 0) -> EncodedFrame:
    key = n % 30 == 0
    return EncodedFrame((IDR if key else SLICE) + b"x" * size, key, n * 3000, asyncio.get_running_loop().time(), layer)


def rates(source: Source) -> list[str]:
    return [line.removeprefix("bitrate ") for line in source.log if line.startswith("bitrate")]


async def test_the_camera_is_told_which_layers_are_wanted() -> None:
    hub, source = make()
    assert source.wanted == {"main": False, "low": False}
    first, second = Viewer(hub, 3e6), Viewer(hub, 0.5e6)
    assert (first.share, second.share) == (Share("main"), Share("low"))
    assert source.wanted == {"main": True, "low": True}
    second.leave()
    assert source.wanted == {"main": True, "low": False}
    first.leave()
    assert source.wanted == {"main": False, "low": False}
    await hub.close()


async def test_a_layer_has_the_planned_size_until_it_delivers() -> None:
    hub, _ = make(replace(ENCODED, sizes=((1280, 720),)))
    assert (hub.size("main"), hub.size("low")) == ((1280, 720), (0, 0))
    hub.on_info("main", StreamInfo(640, 480, 30))
    assert hub.size("main") == (640, 480)
    await hub.close()


async def test_a_slow_viewer_takes_the_small_layer_and_the_others_keep_their_rate() -> None:
    hub, source = make()
    quick, slow = Viewer(hub, 9e6), Viewer(hub, 2.9e6)
    assert rates(source)[-1] == "main 2900000"  # nearly as quick: together
    hub.demand(slow, 0.5e6)
    await asyncio.sleep(0.2)
    assert (slow.share, quick.share) == (Share("low"), Share("main"))
    assert set(rates(source)[-2:]) == {"main 3000000", "low 500000"}
    hub.demand(slow, 2.8e6)
    await asyncio.sleep(0.2)
    assert slow.share == Share("main")
    slow.leave()
    await asyncio.sleep(0.2)
    assert rates(source)[-1] == "main 3000000"
    quick.leave()
    await hub.close()


async def test_who_stays_behind_the_others_takes_the_small_layer_though_nothing_is_told_of_him_any_more() -> None:
    hub, source = make()
    quick, slow = Viewer(hub, 3e6), Viewer(hub, 3e6)
    hub.demand(slow, 2e6)
    await asyncio.sleep(0.2)
    assert slow.share == Share("main") and rates(source)[-1] == "main 2000000"
    for n in range(round(30 * (YET_S + 2))):
        hub.on_frame(frame(n, "main"))
        await asyncio.sleep(1 / 30)
    assert slow.share == Share("low") and "main 3000000" in rates(source)[-2:]
    quick.leave()
    slow.leave()
    await hub.close()


async def test_a_rate_that_was_lowered_for_one_who_left_is_not_kept_for_a_snapshot() -> None:
    hub, source = make()
    viewer = Viewer(hub, 1.2e6)
    assert rates(source) == ["main 1200000"]

    class Snapshot:
        def deliver(self, packets: Packets) -> None: ...
        def left_out(self) -> None: ...

    hub.attach(Snapshot())
    viewer.leave()
    await asyncio.sleep(0.2)
    assert rates(source)[-1] == "main 3000000"
    await hub.close()


async def test_a_viewer_that_fails_while_layers_are_shared_out_takes_nothing_from_the_others() -> None:
    class Broken(Viewer):
        def assign(self, share: Share) -> None:
            raise RuntimeError("descriptors are used up")

        def left_out(self) -> None:
            self.leave()
            ended.append(self)

    ended: list[Broken] = []
    hub, _ = make(UNSURE)
    broken, good = Broken(hub, 0.3e6), Viewer(hub, 0.3e6)
    assert broken.share.layer == good.share.layer == "low"
    hub.on_info("low", StreamInfo(absent=True))
    assert ended == [broken] and good.share.layer == "main" and hub.viewers == 1
    await hub.close()


async def test_plans_are_made_ten_times_a_second_at_most_and_a_wish_at_once() -> None:
    hub, source = make()
    viewer = Viewer(hub, 2e6)
    before = len(rates(source))
    for step in range(100):
        hub.demand(viewer, 1.5e6 + 10_000 * step)
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.2)
    assert 3 <= len(rates(source)) - before <= 6
    hub.demand(viewer, 2.49e6, "low")
    assert viewer.share == Share("low")
    hub.demand(viewer, 2.49e6, "auto")
    assert viewer.share == Share("main")
    hub.unwatch(viewer)
    hub.demand(viewer, 1e6)  # of one who left
    viewer.leave()
    await hub.close()


async def test_small_changes_of_the_rate_are_not_passed_on() -> None:
    hub, source = make()
    viewer = Viewer(hub, 2e6)
    hub.demand(viewer, 2.03e6)
    await asyncio.sleep(0.2)
    assert rates(source) == ["main 2000000"]
    hub.demand(viewer, 2.05e6)
    await asyncio.sleep(0.2)
    assert rates(source)[-1] == "main 2050000"
    viewer.leave()
    await hub.close()


async def test_the_rate_of_what_cannot_be_changed_is_measured() -> None:
    hub, source = make(FIXED)
    viewer = Viewer(hub, 9e6, "main")
    for n in range(30 * 7):
        hub.on_frame(frame(n, "main", 5000))
        await asyncio.sleep(1 / 30)
    assert 0.95 < hub.best_bps() / (5000 * 8 * 30) < 1.1
    hub.demand(viewer, 0.6e6, "main")
    await asyncio.sleep(0.2)
    assert viewer.share == Share("main", 0.6e6)  # his wish: pictures are left out
    hub.demand(viewer, 0.6e6, "auto")
    assert viewer.share.layer == "sub"
    assert rates(source) == []
    viewer.leave()
    await hub.close()


async def test_a_layer_that_gives_nothing_is_not_offered_while_another_delivers() -> None:
    hub, _ = make(ENCODED)
    viewer, other = Viewer(hub, 9e6), Viewer(hub, 9e6, "low")
    assert viewer.share == Share("main")
    for n in range(round(30 * (SILENT_S + 1))):
        hub.on_frame(frame(n, "low"))
        await asyncio.sleep(1 / 30)
    hub.demand(viewer, 8e6)
    await asyncio.sleep(0.2)
    assert viewer.share == Share("low")
    await asyncio.sleep(SILENT_FOR_S)
    assert hub.watch(object.__new__(Viewer), 9e6).layer == "main"  # it may be tried again
    viewer.leave()
    other.leave()
    await hub.close()


async def test_a_layer_that_turns_out_not_to_be_there_is_offered_to_nobody() -> None:
    hub, source = make(UNSURE)
    slow = Viewer(hub, 0.6e6)
    assert (slow.share.layer, hub.offered) == ("low", ("main", "low"))
    hub.on_info("low", StreamInfo(absent=True))
    assert (slow.share.layer, hub.offered) == ("main", ("main",)), "at once, not when its silence is noticed"
    assert source.wanted == {"main": True, "low": False}
    hub.demand(slow, 0.6e6, "low")
    assert slow.share.layer == "main"
    slow.leave()
    await hub.close()


async def test_a_layer_that_is_gone_for_a_while_leaves_its_viewers_to_another() -> None:
    hub, _ = make(FIXED)
    hub.on_info("main", StreamInfo(1920, 1080))
    viewer = Viewer(hub, None)
    hub.on_frame(frame(0, "main"))
    assert (viewer.share.layer, len(hub.catch_up("main"))) == ("main", 1)
    hub.on_info("main", StreamInfo(1920, 1080, absent=True, fault="It is gone."))
    assert (viewer.share.layer, hub.offered) == ("sub", ("sub",)), "at once, and who comes begins there"
    hub.on_info("main", StreamInfo(1920, 1080))
    assert viewer.share.layer == "main"
    assert not hub.catch_up("main"), "nothing from before"
    still = asyncio.create_task(hub.gop("main"))
    await asyncio.sleep(0)
    for layer in ("sub", "main"):
        hub.on_info(layer, StreamInfo(absent=True))
    hub.on_frame(frame(0, "main"))
    assert len(await still) == 1, "the best one is what is left of none"
    viewer.leave()
    await hub.close()


async def test_layers_that_turn_out_to_be_encoded_here_are_chosen_and_told_their_rates_at_once() -> None:
    hub, source = make(UNSURE)
    hub.on_info("low", StreamInfo(absent=True))  # of a run before
    quick, slow = Viewer(hub, 2.5e6), Viewer(hub, 0.4e6)
    assert {quick.share.layer, slow.share.layer} == {"main"}
    hub.on_info("low", StreamInfo(320, 180, 30, encoded=True, bitrate=700_000))
    hub.on_info("main", StreamInfo(640, 360, 30, encoded=True, bitrate=2_000_000))
    assert (quick.share, slow.share) == (Share("main"), Share("low"))
    assert {"main 2000000", "low 400000"} <= set(rates(source))
    assert (hub.best_bps(), hub.best_bps("low"), hub.best_bps("attic")) == (2_000_000, 700_000, 2_000_000)
    quick.leave()
    slow.leave()
    await hub.close()


async def test_a_quiet_picture_does_not_pull_down_the_rate_of_what_is_encoded_here() -> None:
    hub, source = make(UNSURE)
    hub.on_info("main", StreamInfo(640, 360, 30, encoded=True, bitrate=2_000_000))
    viewer = Viewer(hub, 9e6, "main")
    for n in range(30 * 11):
        hub.on_frame(frame(n, "main", 100))
        await asyncio.sleep(1 / 30)
    hub.demand(viewer, 8e6, "main")
    await asyncio.sleep(0.2)
    assert hub.best_bps() == 2_000_000
    assert rates(source) == ["main 2000000"]
    viewer.leave()
    await hub.close()


async def test_a_still_of_a_layer_that_is_not_there_is_of_the_other() -> None:
    hub, _ = make(UNSURE)
    still = asyncio.create_task(hub.gop("low"))
    await asyncio.sleep(0)
    hub.on_info("low", StreamInfo(absent=True))
    hub.on_frame(frame(0, "main"))
    assert [found.layer for found in await still] == ["main"]
    assert hub.viewers == 0
    hub.on_frame(frame(30, "main"))
    assert [found.layer for found in await hub.gop("low")] == ["main"]
    await hub.close()
