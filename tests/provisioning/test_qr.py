"""`provision qr|labels|discover` as they are typed."""

from __future__ import annotations

import importlib.util
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from edgeagent import cli
from edgeagent.wire.claim import Claim
from edgeagent.wire.wifi import Wifi, open_wifi
from edgeagent_provisioning import claims, codes, discover, keyfiles
from edgeagent_provisioning import cli as commands
from edgeagent_provisioning.cli import labels as labels_cli
from edgeagent_provisioning.discover import WaitingBoard
from edgeagent_provisioning.labels import SHEETS
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, planned

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, site: Site) -> Run:
    monkeypatch.setenv("EDGEAGENT_SITE", str(site.folder))
    monkeypatch.setattr(commands, "_MODULES", ("labels",))
    monkeypatch.setattr("time.time", lambda: float(NOW))

    def typed(*words: object) -> tuple[int, str, str]:
        site.close()  # so that the commands leave nothing open either; the test opens it anew where it looks
        code = cli.main(["provision", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What QR codes were drawn of."""
    texts: list[str] = []
    draw = codes.picture

    def drawn(text: str, kind: Literal["png", "svg", "terminal"]) -> bytes:
        texts.append(text)
        return draw(text, kind)

    monkeypatch.setattr(codes, "picture", drawn)
    return texts


def test_a_claim_is_shown_in_the_terminal(run: Run, site: Site, shown: list[str]) -> None:
    token = planned(site, "gate-1")
    code, out, err = run("qr", "gate-1")
    assert code == 0 and out.count("\n") > 25 and "▀" in out
    assert Claim.parse(shown[0]).secret == token.secret
    assert "can be that board" in err and token.secret not in out + err
    assert [entry.action for entry in site.registry.audited("gate-1")][-1] == "show claim"


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_claim_is_written_as_a_picture(run: Run, site: Site, tmp_path: Path, kind: str) -> None:
    planned(site, "gate-1")
    out = tmp_path / f"gate.{kind}"
    assert run("qr", "gate-1", "--out", out)[0] == 0
    assert out.read_bytes().startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_bulk_claim_is_shown_by_its_prefix(run: Run, site: Site, shown: list[str]) -> None:
    token = claims.mint_bulk(site, NOW, 5, prefix="cam")
    assert run("qr", "cam")[0] == 0
    assert Claim.parse(shown[0]).token_id == token.id


def test_wifi_is_signed_for_one_board_or_for_all(run: Run, site: Site, shown: list[str], tmp_path: Path) -> None:
    planned(site, "gate-1")
    keyfiles.write_private(tmp_path / "wifi", "New network:a-long:key\n")
    code, out, err = run("qr", "--wifi-file", tmp_path / "wifi")
    assert code == 0 and "every board" in err and "a-long" not in out + err
    code, _, err = run("qr", "gate-1", "--wifi-file", tmp_path / "wifi")
    assert code == 0 and "gate-1 takes" in err
    sig = site.public_keys["sig"]
    assert (
        open_wifi(shown[0], sig, board="any").wifi
        == open_wifi(shown[1], sig, board="gate-1").wifi
        == Wifi("New network", "a-long:key")
    )
    assert all("a-long" not in str(entry) for entry in site.registry.audited())


@pytest.mark.parametrize(("words", "library"), [(["labels"], "segno"), (["qr", "gate-1"], "segno"), (["discover"], "zeroconf")])
def test_a_library_that_is_missing_is_named(run: Run, words: list[str], library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == library else find(name, *more))
    code, _, err = run(*words)
    assert code == 1 and f"pip install {library}" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["qr"], "board's name for its claim"),
        (["qr", "gate-9"], "add gate-9"),
        (["qr", "gate-1"], "active and needs no claim"),
        (["qr", "gate-1", "--out", "x.jpg"], "--out x.png"),
        (["qr", "--wifi", "a", "--wifi-file", "b"], "not both"),
        (["labels", "gate-9"], "no board gate-9"),
        (["labels", "--tag", "none"], "no such board"),
        (["labels", "--out", "x.doc"], ".pdf or .svg"),
        (["labels", "--without-claims", "--out", "no-stick/x.pdf"], "mount what it is on"),
        (["labels", "--first", "0"], "places 1 to 21"),
        (["discover", "--wait", "0"], "0 to 120 seconds"),
    ],
)
def test_wrong_input_says_what_to_type(run: Run, site: Site, words: list[str], told: str) -> None:
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, Board("gate-1", NOW, "active"))
    code, _, err = run(*words)
    assert code != 0 and told in err


def test_labels_of_a_site(run: Run, site: Site, tmp_path: Path) -> None:
    for number in range(9):
        planned(site, f"gate-{number}")
    code, out, _ = run("labels", "--json", "--sheet", "a4-8")
    told = json.loads(out)
    assert code == 0 and (told["labels"], told["sheets"], told["claims"]) == (9, 2, 9)
    path = Path(told["files"][0])
    assert path == site.folder / "labels" / "labels-a4-8.pdf" and path.read_bytes().startswith(b"%PDF")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code, out, _ = run("labels", "--sheet", "a4-8", "--out", tmp_path / "l.svg", "gate-1", "gate-2", "--without-claims")
    assert code == 0 and "2 labels on 1 sheet" in out and "laim" not in out and (tmp_path / "l.svg").exists()
    code, out, _ = run("labels", "--sheet", "a4-8", "--format", "svg", "--out", tmp_path / "m.svg")
    assert code == 0 and (tmp_path / "m-1.svg").exists() and (tmp_path / "m-2.svg").exists() and "Claims are on 9 of them" in out


def test_the_sheets_are_those_that_there_are(run: Run) -> None:
    assert set(labels_cli._SHEETS) == set(SHEETS)
    code, out, _ = run("labels", "--sheets")
    assert code == 0 and "Avery" in out


def test_waiting_boards_are_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [WaitingBoard("pi-1", "Raspberry Pi 5", "10a", "1.0", ("192.0.2.7", "192.0.2.8", "fe80::1"), "Waits for a claim.")]

    async def answered(wait: float, interfaces: list[str]) -> list[WaitingBoard]:
        return found if wait == 1.0 and interfaces == ["192.0.2.1"] else []

    monkeypatch.setattr(discover, "discover", answered)
    code, out, _ = run("discover", "--wait", "1", "--interface", "192.0.2.1")
    assert code == 0 and "pi-1" in out and "192.0.2.8" in out and "Waits for a claim." in out
    assert json.loads(run("discover", "--wait", "1", "--interface", "192.0.2.1", "--json")[1])[0]["serial"] == "10a"
    assert "No board in this network" in run("discover")[1]
