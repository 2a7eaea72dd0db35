"""The first boot of a card: whom root pins. All of it, in a real system, is tests/rootfs/test_first_boot.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.install import first_boot
from edgeagent.install.installing import Installation
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps
from edgeagent.install.wheels import Wheelhouse
from tests.install.wheels import Service, wheelhouse


class Board:
    """A prepared card in a system of the test's, where the agent is installed already."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.enrol: Callable[[], None] = lambda: self.joins("home")
        self.places = Places(root)
        self.steps = Steps(self.places, say=self.said.append)
        self.installation = Installation(self.steps, Service(self.places.current))
        self.card = root / "card"
        house = wheelhouse(self.card / "wheelhouse", "1.0")
        (self.card / "card.json").write_text('{"index": true}')
        (self.card / "edgeagent.yaml").write_text("cameras: {front: {driver: rtsp, password: secret of the camera}}")
        self.places.etc.mkdir(parents=True)
        self.places.config.write_text("{}")
        self.claim = self.places.etc / "claim.json"
        self.claim.write_text("{}")
        slot = Wheelhouse.open(house).slot
        monkeypatch.setattr(self.installation.slots, "current", lambda: slot)
        monkeypatch.setattr(first_boot, "wipe_claim", lambda steps, text: [])
        monkeypatch.setattr(first_boot, "_enrol", lambda steps, claim: self.enrol())

    def joins(self, site: str) -> None:
        identity = self.places.state / "identity"
        identity.mkdir(parents=True)
        (identity / "site.json").write_text(json.dumps({"name": "porch", "sig": {"x": site}}))

    def boots(self) -> None:
        first_boot.run(self.card, self.steps, self.installation)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


def test_the_site_of_the_claim_may_order_upgrades(board: Board) -> None:
    board.boots()
    assert json.loads(board.places.signers.read_text())["sig"] == {"x": "home"}
    assert board.said[-1] == "First boot is done."


def test_passwords_of_cameras_do_not_stay_on_the_card(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in /etc by then, for the agent alone; also where the claim is void, and where the power went at any step."""
    board.places.config.unlink()

    def install(wheelhouse: Wheelhouse, *, index: bool, config: str | None, start: bool) -> None:
        assert config and "secret of the camera" in config
        board.places.config.write_text(config)

    def void() -> None:
        raise EdgeAgentError("The claim is void.")

    monkeypatch.setattr(board.installation, "install", install)
    board.enrol = void
    with pytest.raises(EdgeAgentError, match="void"):
        board.boots()
    assert not any(
        "secret of the camera" in path.read_text() for path in board.card.rglob("*") if path.suffix != ".whl" and path.is_file()
    )
    assert "secret of the camera" in board.places.config.read_text()
    board.enrol = lambda: board.joins("home")
    board.boots()
    assert board.said[-1] == "First boot is done."


def test_a_site_that_took_the_board_meanwhile_may_not(board: Board) -> None:
    """By a QR, once the agent ran since the claim was void."""

    def void() -> None:
        raise EdgeAgentError("The claim is void.")

    board.enrol = void
    with pytest.raises(EdgeAgentError, match="void"):
        board.boots()
    board.joins("of a stranger")
    board.boots()
    assert not board.places.signers.exists()
    assert "upgrade --pin" in board.said[-2] and board.said[-1] == "First boot is done."
