"""The first boot of a prepared card: install, enrol with the claim, start, wipe the claim, and never again.

Run by `edgeagent-first-boot.service` out of the card's own wheel until all of it is done; each step may be repeated.

    <card>/            `edgeagent/` of the boot partition, as `edgeagent provision prepare` writes it
      wheelhouse/      as in `edgeagent.install.wheels`
      edgeagent.yaml   the first configuration, with passwords of cameras: gone from the card once it is in /etc/edgeagent
      claim.json       0600 in /etc/edgeagent from the first run on, and gone after the last
"""

from __future__ import annotations

__all__ = ["run"]

import contextlib
import json
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install import ordered
from edgeagent.install.installing import Installation
from edgeagent.install.places import USER
from edgeagent.install.steps import Steps
from edgeagent.install.wheels import Wheelhouse
from edgeagent.install.wipe import shred, wipe_claim

UNIT = "edgeagent-first-boot.service"


def run(card: Path, steps: Steps, installation: Installation) -> None:
    """All of it.

    Args:
        card: The folder on the boot partition.
        steps: The system.
        installation: The agent on it.

    Raises:
        EdgeAgentError: Something is not possible yet, or at all; what was done stays done.
    """
    places = steps.places
    told = json.loads((card / "card.json").read_text(encoding="utf-8"))
    claim = places.etc / "claim.json"
    wheelhouse = Wheelhouse.open(card / "wheelhouse")
    if installation.slots.current() != wheelhouse.slot or not places.config.is_file():
        first = card / "edgeagent.yaml"
        config = first.read_text(encoding="utf-8") if first.is_file() else None
        installation.install(wheelhouse, index=bool(told["index"]), config=config, start=False)
    # Whoever may log in can read the boot partition, and whoever has the card anyway.
    shred(steps, card / "edgeagent.yaml")
    if (card / "claim.json").is_file():
        steps.write(claim, (card / "claim.json").read_bytes(), 0o600, USER)
        steps.remove(card / "claim.json")
    joined = (places.state / "identity" / "site.json").is_file()
    if claim.is_file() and not joined:
        try:
            _enrol(steps, claim)
        except EdgeAgentError:
            if places.live:  # so that it is found in its network, and takes a QR, whatever is wrong with this claim
                with contextlib.suppress(EdgeAgentError):
                    steps.run(["systemctl", "start", "edgeagent.service"], timeout_s=180)
            raise
        # Only right after our own claim was used: once the agent runs, a QR may have taken the board to any site.
        if not ordered.pin(steps):
            raise EdgeAgentError("The board has not joined its site yet; this is tried again.")
    installation.start()
    if claim.is_file():
        wiped = wipe_claim(steps, claim.read_text(encoding="utf-8"))
        steps.say(f"The claim was wiped from {len(wiped)} places.")
        if told.get("wifi"):
            steps.say("The key of the Wi-Fi stays on the card, and in the system's network settings: the board needs it.")
    if joined and not places.signers.is_file():
        steps.say(
            "This board had joined a site before its claim was used here, maybe by a QR: no site may order upgrades of it "
            "until `sudo edgeagent upgrade --pin` lets the one that it belongs to."
        )
    steps.remove(places.units / "multi-user.target.wants" / UNIT)
    steps.remove(places.units / UNIT)
    steps.say("First boot is done.")


def _enrol(steps: Steps, claim: Path) -> None:
    """As the agent's user: the keys are its own."""
    places = steps.places
    program = str(places.current / "bin" / "edgeagent")
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(places.state)}
    steps.run([program, "enrol", str(claim), "--wait", "--state", str(places.state)], user=USER, env=env, timeout_s=900)
