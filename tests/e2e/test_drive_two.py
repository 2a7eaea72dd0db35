"""Several people before one rover: who has the wheel, how it changes hands in the middle of a drive, who may stop it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.rover import Rover
from tests.support.wheel import CIRCLE, Keys, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TOKENS = {name: f"the token of {name}, kept well" for name in ("Anna", "Ben", "Olga")}
CONTROL = {
    "local": "watch",
    "operators": {
        "anna": {"token": TOKENS["Anna"], "role": "operate"},
        "ben": {"token": TOKENS["Ben"], "role": "operate"},
        "olga": {"token": TOKENS["Olga"], "role": "admin"},
    },
}


def test_the_wheel_changes_hands_in_the_middle_of_a_drive(browser: Browser, tmp_path: Path) -> None:
    with (
        Rover(tmp_path, control=CONTROL) as rover,
        wheel(browser, rover.drive_page()) as anna,
        wheel(browser, rover.drive_page()) as ben,
    ):
        world = rover.world
        anna.wait_said("Nobody drives", "You watch, and may stop.")
        assert "Take the wheel" not in anna.said()
        anna.sign_in(TOKENS["Anna"])
        anna.go(world)
        lease = anna.group()["lease"]

        ben.wait_said("anna drives", "You watch, and may stop.")
        assert "You may watch and stop" in ben.ask("lease", "drive", "request")
        ben.sign_in(TOKENS["Ben"])
        ben.wait_said("anna drives", "Ask for the wheel")
        assert "anna operates this; wait in the queue" in ben.ask("lease", "drive", "take")
        assert "Take over" not in ben.said()
        assert anna.group()["lease"] == lease, "none of that hinders her"
        ben.press("Ask for the wheel")
        ben.wait_said("anna drives", "You are next.")

        # What stopped her meanwhile on a busy machine is told first: she goes on.
        anna.drive(Keys(anna, *CIRCLE), lambda: "ben would like to drive." in anna.said(), "his wish to be told")
        anna.press("Hand over to ben")
        anna.wait_said("ben drives", "You have handed over to ben.")
        ben.wait(lambda: ben.holds, "his page to know it")
        ben.stays_still(world)
        rover.wait_stops("lease", 0)
        assert "You do not operate this" in anna.ask("halt", "drive", "person")

        with wheel(browser, rover.drive_page()) as olga:
            olga.wait_said("ben drives")
            olga.sign_in(TOKENS["Olga"])
            keys, before = ben.go(world), rover.stops("taken")
            olga.press("Take over")
            ben.wait_said("olga drives", "Olga has taken over from ben.")
            rover.wait_stops("taken", before)
            olga.stays_still(world)
            olga.wait(lambda: olga.holds, "her page to know it")
            keys.rest()
            Keys(ben, *CIRCLE).push()
            olga.stays_still(world)
            olga.go(world)


def test_whoever_watches_may_stop_it_and_only_an_operator_lets_it_go_on(browser: Browser, tmp_path: Path) -> None:
    with (
        Rover(tmp_path, control=CONTROL) as rover,
        wheel(browser, rover.drive_page()) as anna,
        wheel(browser, rover.drive_page()) as guest,
    ):
        world = rover.world
        anna.sign_in(TOKENS["Anna"])
        anna.go(world)
        guest.wait_said("anna drives")
        guest.element.get_by_role("button", name="Stop everything that moves").click()
        anna.wait_said("Stopped", "Somebody has pressed the emergency stop. Nothing moves until you release it.")
        anna.stays_still(world)
        guest.wait_said("Stopped", "You pressed stop. Nothing moves until an operator releases it.")
        assert "Release the stop" not in guest.said()
        assert "You may watch and stop" in guest.ask("reset")

        keys = Keys(anna, *CIRCLE)
        keys.rest()
        keys.push()
        anna.stays_still(world)
        anna.press("Release the stop")
        anna.stays_still(world)
        guest.wait_said("anna drives")
        keys.rest()
        anna.go(world, keys)
        anna.page.keyboard.press("Space")
        guest.wait_said("Stopped", "Anna has pressed the emergency stop")
        anna.stays_still(world)
        rover.wait_stops("stop", 1)
