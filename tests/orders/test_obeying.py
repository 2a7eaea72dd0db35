"""A site and its boards, with all that a hostile broker may do between them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from typing import Any

import pytest

from edgeagent.orders.store import Store
from edgeagent.wire import orders as o
from edgeagent.wire import seal
from edgeagent_provisioning.site_orders import SiteOrders
from tests.orders.pair import SETTINGS, World
from tests.provisioning.common import NOW, certified

VERSION = o.settings_version(SETTINGS)
OTHER = {"cameras": {"back": {"driver": "test-pattern"}}}


async def test_a_site_and_its_board_understand_each_other(world: World) -> None:
    gate = world.add("gate")
    async with world.running():
        ping = world.give("gate", "ping")  # before it is there
        await asyncio.sleep(5)
        assert world.look(ping).state == "waiting"
        gate.boot()
        assert (await world.until_done(ping)).code == 200
        logs = await world.until_done(world.give("gate", "logs", lines=2000))
        assert logs.data == "line\n" * 2000 and logs.state == "done"
        assert (await world.until_done(world.give("gate", "doctor"))).code == 501
        restart = await world.until_done(world.give("gate", "restart"))
        assert restart.code == 200
        await asyncio.sleep(1)
        assert gate.runs == 2 and gate.restarts == ["the site wants it"]
    assert all(row["body"] == "" for row in world.site.registry.rows("SELECT body FROM orders"))


async def test_a_board_that_came_while_its_site_was_away_says_it_again(world: World) -> None:
    """Else it would stay `planned`, and could be given no orders, until it connects the next time."""
    gate = world.add("gate")

    def stands(state: str) -> None:
        with world.site.registry.transaction() as connection:
            connection.execute("UPDATE boards SET state = ?, enrolled_at = ?", (state, NOW))

    async def asked() -> list[str]:
        world.orders = SiteOrders(world.site)  # its service begins
        world.orders.up("gate", gate.epoch, True, missed=True)
        world.orders.up("gate", gate.epoch, True)
        await asyncio.sleep(5)
        return [row["state"] for row in world.site.registry.rows("SELECT state FROM orders WHERE kind = 'ping'")]

    stands("planned")
    gate.boot()
    world.to_site.clear()
    async with world.running():
        assert await asked() == ["done"]
        (row,) = world.site.registry.rows("SELECT heard FROM fleet")
        assert row["heard"] > 0
        stands("active")
        assert await asked() == ["done"]  # and no more
        certified(world.site, "gate", NOW + 1)
        assert await asked() == ["done", "done"]
        with world.site.registry.transaction() as connection:
            connection.execute("UPDATE certificates SET used_at = issued_at")
        assert await asked() == ["done", "done"]


async def test_settings_that_work_take_effect(world: World) -> None:
    gate = world.add("gate")
    gate.boot()
    async with world.running():
        order = world.settings("gate")
        assert (await world.until_done(order)).state == "done"
        assert gate.runs == 2
        row = world.site.registry.rows("SELECT * FROM fleet")[0]
        assert (row["effect"], row["refused"], row["note"]) == (VERSION, "", "")
        written = json.loads((gate.state / f"desired.{VERSION}.yaml").read_text())
        assert written == SETTINGS and (gate.state / f"desired.{VERSION}.yaml").stat().st_mode & 0o077 == 0
        again = await world.until_done(world.settings("gate"))
        assert again.code == 200 and "already" in again.text and gate.runs == 2
        assert (await world.until_done(world.settings("gate", OTHER))).state == "done"
        assert [path.name for path in gate.state.glob("desired.*")] == [f"desired.{o.settings_version(OTHER)}.yaml"]


async def test_settings_that_do_not_work_are_taken_back_by_the_board(world: World) -> None:
    gate = world.add("gate")
    gate.boot()
    async with world.running():
        await world.until_done(world.settings("gate"))
        gate.works = lambda version: version == VERSION
        failed = await world.until_done(world.settings("gate", OTHER))
        assert (failed.state, failed.code) == ("failed", 422) and "taken back" in failed.text
        row = world.site.registry.rows("SELECT * FROM fleet")[0]
        assert (row["effect"], row["refused"]) == (VERSION, o.settings_version(OTHER)) and "taken back" in row["note"]
        assert (await world.until_done(world.give("gate", "ping"))).code == 200


async def test_settings_that_lose_the_broker_are_taken_back_by_the_board(world: World) -> None:
    gate = world.add("gate")
    gate.reaches = lambda version: version == ""
    gate.boot()
    async with world.running():
        failed = await world.until_done(world.settings("gate"))
        assert failed.code == 422 and "the broker could not be reached within 60 s" in failed.text
        assert (await world.until_done(world.give("gate", "ping"))).code == 200 and gate.runs == 3


async def test_settings_that_are_wrong_are_refused_without_a_restart(world: World) -> None:
    gate = world.add("gate")
    gate.problems = ["cameras.front.driver: there is no such driver"]
    gate.boot()
    async with world.running():
        failed = await world.until_done(world.settings("gate"))
        assert failed.code == 422 and "no such driver" in failed.text and gate.runs == 1


async def test_a_board_that_just_came_gets_its_settings(world: World) -> None:
    gate = world.add("gate", cameras=SETTINGS["cameras"])
    async with world.running():
        gate.boot()
        await asyncio.sleep(30)
        assert world.site.registry.rows("SELECT effect FROM fleet")[0]["effect"] == VERSION
        # What it could not use is not forced on it again and again.
        gate.works = lambda version: version == VERSION
        await world.until_done(world.settings("gate", OTHER))
        await asyncio.sleep(100)
        assert gate.runs == 4 and gate.obeying and gate.obeying.counters.obeyed == 0


async def test_settings_wait_while_others_are_on_trial_and_say_so(world: World) -> None:
    gate = world.add("gate")
    gate.first(SETTINGS)  # as it comes from its enrolment
    gate.boot()
    async with world.running():
        order = world.settings("gate", OTHER)
        while not (waiting := world.look(order)).text:
            await asyncio.sleep(0.1)
        assert waiting.state == "waiting" and "tried already" in waiting.text
        assert (await world.until_done(order)).code == 200
        assert Store(gate.state).record.settings == o.settings_version(OTHER)
        assert gate.runs == 2


async def test_first_settings_that_do_not_work_are_not_tried_again(world: World) -> None:
    gate = world.add("gate", cameras=SETTINGS["cameras"])
    gate.works = lambda version: version != VERSION
    gate.first(SETTINGS)
    gate.boot()
    async with world.running():
        await asyncio.sleep(90)
        assert world.site.registry.rows("SELECT 1 FROM orders") == []
        row = world.site.registry.rows("SELECT * FROM fleet")[0]
        assert (row["effect"], row["refused"]) == ("", VERSION) and "taken back" in row["note"]
        assert gate.runs == 2
        # Whoever applies them nevertheless is obeyed.
        gate.works = lambda version: True
        assert (await world.until_done(world.settings("gate"))).code == 200


@pytest.mark.parametrize("works", [True, False])
async def test_a_board_that_was_away_through_its_trial_is_given_nothing_twice(works: bool, world: World) -> None:
    gate, tried = world.add("gate"), o.settings_version(OTHER)
    gate.boot()
    async with world.running():
        with world.site.registry.transaction() as connection:
            connection.execute("INSERT INTO fleet (board) VALUES ('gate')")
            released = "UPDATE fleet SET released = ?, released_version = ?"
            connection.execute(released, (json.dumps(OTHER), tried))
        order = world.settings("gate", OTHER)
        gate.works = lambda version: works or version != tried
        while gate.runs < 2:
            await asyncio.sleep(0.5)
        await gate.off()
        assert (await world.until_done(order)).code == 504
        gate.boot()
        await asyncio.sleep(100)
        assert len(world.site.registry.rows("SELECT 1 FROM orders WHERE kind = 'settings'")) == 1
        row = world.site.registry.rows("SELECT * FROM fleet")[0]
        assert (row["effect"], row["refused"]) == ((tried, "") if works else ("", tried))
        assert ("taken back" in row["note"]) is not works
        assert gate.runs == (3 if works else 4)


async def test_the_broker_can_neither_forge_nor_replay_nor_reorder(world: World) -> None:
    gate, barn = world.add("gate"), world.add("barn")
    gate.boot()
    barn.boot()
    async with world.running():
        await world.until_done(world.give("gate", "ping"))
        await world.until_done(world.give("gate", "restart"))
        await asyncio.sleep(2)
        seen = [text for name, text in world.to_boards if name == "gate"]
        assert gate.runs == 2
        forged = seal.seal(
            {"v": 1, "t": "restart"},
            to_enc=seal.public_jwk(gate.enc),
            by_sig=barn.id,
            issuer="site",
            audience="gate",
            epoch=gate.epoch,
            number=2**50,
        )
        bent = seen[-1][:-4] + ("AAAA" if seen[-1][-4:] != "AAAA" else "BBBB")
        told = len(gate.sent)
        for text in (*seen, *reversed(seen), forged, bent, "", "a.b.c.d.e", "x" * 70_000):
            gate.hears(text)
            barn.hears(text)
            await asyncio.sleep(3)
        assert (gate.runs, barn.runs) == (2, 1)
        assert gate.obeying and barn.obeying and gate.obeying.counters.obeyed == 0 and barn.obeying.counters.obeyed == 0
        assert gate.obeying.counters.forged >= 3 and barn.obeying.counters.forged >= len(seen) + 2
        assert len(gate.sent) - told <= 2 * len(seen)  # it says that they came too late, and that not often
        assert len(barn.sent) == 1
        assert (await world.until_done(world.give("gate", "ping"))).code == 200


@pytest.mark.parametrize("ahead_s", [0, 7_200, -7_200, -NOW])
async def test_what_the_broker_holds_back_is_not_obeyed_once_the_site_gave_it_up(world: World, ahead_s: float) -> None:
    """Whatever the board's clock says; one that was never set, or is behind, once the board has heard anything of its site."""
    gate = world.add("gate")
    forgotten: list[bool] = []
    gate.jobs["forget"], gate.ahead_s = forgotten.append, ahead_s
    gate.boot()
    async with world.running():
        assert (await world.until_done(world.give("gate", "ping"))).code == 200
        world.deliver = False
        lost = await world.until_done(world.give("gate", "transfer"))
        assert lost.state == "failed" and "does not answer" in lost.text
        assert gate.obeying and gate.obeying.counters.obeyed == 1
        for _, text in world.to_boards:
            gate.hears(text)
            await asyncio.sleep(3)
        world.deliver = True
        assert gate.obeying.counters.obeyed == 1 and gate.obeying.counters.refused > 0
        assert (await world.until_done(world.give("gate", "transfer"))).code == 200
        await asyncio.sleep(3)
        assert forgotten == [False]


async def test_what_gets_lost_is_sent_again_and_obeyed_once(world: World) -> None:
    gate = world.add("gate")
    gate.boot()
    async with world.running():
        await asyncio.sleep(1)
        world.deliver = False
        ping = world.give("gate", "ping")
        await asyncio.sleep(3)
        world.deliver = True
        assert (await world.until_done(ping)).code == 200
        assert gate.obeying and gate.obeying.counters.obeyed == 1
        assert len({text for name, text in world.to_boards}) == 1  # the same envelope
        # The answer gets lost: the board repeats it.
        world.deliver = False
        restart = world.give("gate", "logs", lines=1)
        await asyncio.sleep(1)
        gate.hears(world.to_boards[-1][1])
        await asyncio.sleep(2)
        world.to_site.clear()
        world.deliver = True
        assert (await world.until_done(restart)).data == "line\n"
        assert gate.obeying.counters.obeyed == 2 and gate.obeying.counters.repeated >= 1


async def test_boards_and_strangers_cannot_speak_for_others(world: World) -> None:
    gate, barn = world.add("gate"), world.add("barn")
    async with world.running():
        barn.boot()
        await asyncio.sleep(1)
        world.to_site += [("gate", barn.sent[0]), ("nobody", barn.sent[0]), ("barn", "junk"), ("barn", barn.sent[0])]
        await asyncio.sleep(1)
        assert [error.code for error in world.refused] == [401, 403, 401]
        rows = world.site.registry.rows("SELECT board, heard FROM fleet")
        assert [row["board"] for row in rows] == ["barn"] and gate.runs == 0


async def test_a_site_restored_from_an_old_copy_finds_back(world: World) -> None:
    gate = world.add("gate")
    gate.boot()
    async with world.running():
        await world.until_done(world.give("gate", "ping"))
        # The board has obeyed numbers far ahead of the copy's and of its clock; the broker tells an epoch of long ago.
        assert gate.obeying
        gate.obeying._book.after = 2**41
        world.orders.up("gate", "epoch-0", True)
        assert (await world.until_done(world.give("gate", "ping"))).code == 200
        assert world.site.registry.rows("SELECT sent FROM fleet")[0]["sent"] == 2**41 + 1


async def test_orders_end_when_nobody_answers(world: World) -> None:
    gate = world.add("gate")
    async with world.running():
        late = await world.until_done(world.give("gate", "ping", patience_s=10))
        assert late.state == "failed" and "not there" in late.text
        gate.boot()
        await gate.off()
        world.orders.up("gate", "epoch-1", True)  # so the broker says
        silent = await world.until_done(world.give("gate", "ping"))
        assert silent.state == "failed" and "does not answer" in silent.text


@pytest.mark.parametrize("kind", ["transfer", "reset"])
async def test_a_board_forgets_after_it_has_answered(world: World, kind: str) -> None:
    gate = world.add("gate")
    forgotten: list[bool] = []
    gate.jobs["forget"] = forgotten.append
    gate.boot()
    async with world.running():
        assert (await world.until_done(world.give("gate", kind))).code == 200
        await asyncio.sleep(3)
        assert forgotten == [kind == "reset"] and gate.runs == 2


async def test_the_broker_cannot_say_that_an_order_was_obeyed(world: World) -> None:
    gate = world.add("gate")
    gate.boot()
    async with world.running():
        for kind in ("restart", "transfer"):
            await gate.off()
            gate.boot()
            order = world.give("gate", kind)
            world.deliver = False
            while world.look(order).state != "sent":
                await asyncio.sleep(0.5)
            world.presence("gate", "epoch-99", True)
            done = await world.until_done(order)
            assert done.state == "failed", done
            world.deliver = True


async def test_an_upgrade_that_was_cut_off_is_told_and_makes_room_for_another(world: World) -> None:
    gate = world.add("gate")
    fetched: list[str] = []

    async def fetch(order: o.Upgrade, envelope: str) -> None:
        fetched.append(order.release)

    store = Store(gate.state)
    store.upgrade = 7  # and the power went while the release was fetched
    store.save()
    gate.jobs = {"fetch": fetch, "upgraded": lambda: (0, ""), "laid": lambda: bool(fetched)}
    release: dict[str, Any] = {"release": "1.1", "url": "https://site/1.1.tar", "sha256": "0" * 64, "size": 9}
    gate.boot()
    async with world.running():
        early = await world.until_done(world.give("gate", "upgrade", **release))
        assert early.code == 409 and fetched == []
        await asyncio.sleep(20)
        order = world.give("gate", "upgrade", **release)
        while world.look(order).state != "begun":
            await asyncio.sleep(0.5)
        assert fetched == ["1.1"]
        await asyncio.sleep(60)
        assert world.look(order).state == "begun"  # root is at it


def full(store: Store, record: object = None) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_full_disk_ends_no_agent_and_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = world.add("gate")
    gate.boot()

    async with world.running():
        await world.until_done(world.give("gate", "ping"))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save", full)
            assert (await world.until_done(world.give("gate", "logs", lines=1))).data == "line\n"
            for kind in "restart", "transfer":
                order = await world.until_done(world.give("gate", kind))
                assert (order.state, order.code) == ("failed", 507) and "No space left on device" in order.text
            await asyncio.sleep(5)
            assert gate._task and not gate._task.done() and gate.restarts == []
        await asyncio.sleep(5)
        assert Store(gate.state).after > 0  # what could not be written then
        with monkeypatch.context() as patch:  # once the order's number is written, and before what is to be tried is
            patch.setattr(Store, "keep", full)
            assert (await world.until_done(world.settings("gate"))).code == 507
        assert (await world.until_done(world.settings("gate"))).state == "done"
        assert gate.restarts == [f"to try version {VERSION} of the settings"]


async def test_what_a_full_disk_keeps_waiting_keeps_out_no_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run began when its trial could not be counted, and ends with settings that came after there was room again."""
    gate = world.add("gate")
    gate.first(OTHER)
    async with world.running():
        with monkeypatch.context() as patch:
            patch.setattr(Store, "keep", full)
            gate.boot()
            assert (await world.until_done(world.settings("gate"))).code == 507
        assert (await world.until_done(world.settings("gate"))).state == "done"
        assert gate.restarts == [f"to try version {VERSION} of the settings"]
