"""The commands as they are typed."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent import cli
from edgeagent.wire.claim import Claim
from edgeagent_provisioning import cli as commands
from edgeagent_provisioning import keyfiles
from edgeagent_provisioning.authority import crl_serials
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.cli import common
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, PASSPHRASE, certified, planned

Run = Callable[..., tuple[int, str, str]]

BOARDS = """name,serial,cameras,drivers,wifi,place,tags
gate-1,a1,front:test-pattern,,Home:correct horse,North gate,out
gate-2,,,,,,
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Type a command below `edgeagent provision`: exit code, output, errors."""
    monkeypatch.setenv("EDGEAGENT_SITE", str(tmp_path / "site"))
    monkeypatch.setattr(commands, "_MODULES", ("site", "adding", "boards", "serve"))

    def typed(*words: object) -> tuple[int, str, str]:
        code = cli.main(["provision", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    keyfiles.write_private(tmp_path / "passphrase", PASSPHRASE + "\n")
    return tmp_path / "passphrase"


def listed(run: Run, *words: str) -> Any:
    code, out, _ = run(*words, "--json")
    assert code == 0
    return json.loads(out)


@pytest.fixture
def opened(site: Site) -> Site:
    """The site, which the commands open, too; closed here, so that they leave nothing open either."""
    site.close()
    return site


def test_the_whole_of_it(run: Run, secret: Path, tmp_path: Path) -> None:
    code, out, err = run("site", "init", "home", "--url", "https://pi.home:8443", "--passphrase-file", secret)
    assert (code, err) == (0, "") and "move it to a medium" in out
    assert listed(run, "site", "show")["urls"] == ["https://pi.home:8443"]
    (tmp_path / "boards.csv").write_text(BOARDS)
    code, out, err = run("add", "--csv", tmp_path / "boards.csv", "--claims", tmp_path / "claims")
    assert (code, err) == (0, "") and "row 2: gate-1: added, claim until" in out and "2 added." in out
    assert "correct horse" not in out
    claim = Claim.parse((tmp_path / "claims" / "gate-1.json").read_text())
    assert claim.url == "https://pi.home:8443" and claim.ssid == "Home"
    assert stat.S_IMODE((tmp_path / "claims" / "gate-1.json").stat().st_mode) == 0o600
    assert claim.secret not in out
    code, out, _ = run("add", "--csv", tmp_path / "boards.csv")
    assert code == 0 and "2 unchanged." in out
    code, out, _ = run("list")
    assert code == 0 and "gate-1  planned (claim 7 d)" in out and "North gate" in out
    assert [board["name"] for board in listed(run, "list", "--tag", "out")] == ["gate-1"]
    code, out, _ = run("audit")
    assert code == 0 and "site init  home" in out and "The record is unbroken" in out
    code, out, _ = run("site", "backup", tmp_path / "b", "--passphrase-file", secret)
    assert code == 0
    code, out, _ = run("site", "restore", tmp_path / "b", "--site", tmp_path / "other", "--passphrase-file", secret)
    assert code == 0 and "as it was on" in out
    code, out, _ = run("list", "--site", tmp_path / "other", "--json")
    assert [board["name"] for board in json.loads(out)] == ["gate-1", "gate-2"]


def test_a_list_is_checked_whole_before_anything_is_done(run: Run, opened: Site, tmp_path: Path) -> None:
    planned(opened, "taken")
    opened.close()
    text = BOARDS + "Gate 3,,,,,,\ngate-4,,front:no-such,,,,\ntaken,,,,,elsewhere,\n"
    (tmp_path / "boards.csv").write_text(text)
    code, out, err = run("add", "--csv", tmp_path / "boards.csv")
    assert (code, out) == (1, "")
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "row 4, name",
        "row 5, cameras",
        "row 6, place",
        "Nothing was done",
    ]
    assert len(listed(run, "list")) == 1
    code, out, _ = run("add", "--csv", tmp_path / "boards.csv", "--json")
    assert code == 1 and [problem["row"] for problem in json.loads(out)["problems"]] == [4, 5, 6]
    code, _, err = run("add", "--csv", tmp_path / "missing.csv")
    assert code == 1 and "missing.csv cannot be read" in err


def test_a_list_goes_on_where_it_was_stopped(run: Run, opened: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boards.csv").write_text("name\n" + "\n".join(f"cam-{number}" for number in range(6)))
    save = Board.__init__

    def stopped(self: Board, name: str, *rest: Any, **more: Any) -> None:
        if name == "cam-3":
            raise KeyboardInterrupt
        save(self, name, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Board, "__init__", stopped)
        assert run("add", "--csv", tmp_path / "boards.csv")[0] == cli.EXIT_INTERRUPTED
    assert [board["name"] for board in listed(run, "list")] == ["cam-0", "cam-1", "cam-2"]
    done = listed(run, "add", "--csv", str(tmp_path / "boards.csv"))["boards"]
    assert [row["result"] for row in done] == ["unchanged"] * 3 + ["added"] * 3


def test_a_list_from_the_standard_input_is_only_checked(run: Run, opened: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BOARDS.encode())))
    code, out, _ = run("add", "--csv", "-", "--check")
    assert (code, out) == (0, "2 boards: all is right.\n")
    assert listed(run, "list") == []


def test_one_board(run: Run, opened: Site, tmp_path: Path) -> None:
    code, _, err = run("add", "Gate 1", "--tags", "A")
    assert code == 1 and "name: Gate 1 cannot name a board" in err and "tags: A is no tag" in err
    keyfiles.write_private(tmp_path / "wifi", "Home:correct horse\n")
    code, out, _ = run("add", "gate-1", "--place", "North", "--cameras", "front:test-pattern", "--wifi-file", tmp_path / "wifi")
    assert code == 0 and out.startswith("gate-1: added") and "provision prepare --boot DIR gate-1" in out
    shown = listed(run, "add", "gate-1", "--new-claim", "--show-claim", "--place", "North")["boards"][0]
    assert Claim.parse(shown["claim"]).token_id == shown["token"] and shown["result"] == "new claim"
    code, _, err = run("add", "gate-1", "--bulk", "5")
    assert code == 1 and "--csv FILE" in err
    code, _, err = run("add", "gate-2", "--drivers", "lamp:ledd")
    assert code == 1 and "did you mean `led`?" in err
    assert run("add", "gate-2", "--drivers", "lamp:ledd", "--any-driver")[0] == 0


def test_what_is_not_given_of_a_planned_board_stays(run: Run, opened: Site, tmp_path: Path) -> None:
    (tmp_path / "boards.csv").write_text(BOARDS)
    assert run("add", "--csv", tmp_path / "boards.csv")[0] == 0
    with Site.open(opened.folder) as site:
        as_listed = site.registry.board("gate-1")
    assert as_listed is not None and as_listed.serial == "a1" and as_listed.wifi is not None

    def again(*words: str) -> tuple[str, Board]:
        (done,) = listed(run, "add", "gate-1", "--claims", str(tmp_path / "claims"), *words)["boards"]
        with Site.open(opened.folder) as site:
            found = site.registry.board("gate-1")
            assert found is not None
            assert Claim.parse((tmp_path / "claims" / "gate-1.json").read_text()).token_id == done["token"]
        return done["result"], found

    assert again() == ("unchanged", as_listed)
    assert again("--new-claim") == ("new claim", as_listed)
    code, _, err = run("add", "gate-1", "--place", "South gate")
    assert code == 1 and "place: gate-1 is planned with another value" in err
    result, changed = again("--place", "South gate", "--update")
    assert (result, changed.place) == ("updated", "South gate") and changed.cameras == as_listed.cameras and changed.wifi
    assert again("--serial", "", "--update")[1].serial is None
    assert again("--serial", "a1", "--place", "North gate", "--update")[1] == as_listed
    assert run("revoke", "gate-1", "--yes")[0] == 0
    result, anew = again("--replace")
    assert (result, anew.serial, anew.wifi, anew.cameras) == ("added", "a1", as_listed.wifi, as_listed.cameras)
    with Site.open(opened.folder) as site, site.registry.transaction() as connection:
        site.registry.save_board(connection, dataclasses.replace(anew, state="active"))
    code, _, err = run("add", "gate-1", "--new-claim")
    assert code == 1 and "gate-1 is active" in err and "add gate-1 --replace" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--bulk", "5", "--check", "--labels", "x.pdf"), "--labels, --check cannot be given with --bulk"),
        (("--bulk", "5", "--serial", "a1"), "--serials FILE"),
        (("--csv", "boards.csv", "--place", "Hall"), "--place cannot be given with --csv"),
        (("gate-1", "--prefix", "cam"), "--prefix cannot be given with one board"),
        (("gate-1", "--labels", "x.txt"), ".pdf or .svg"),
        (("gate-1", "--labels", "no-stick/x.pdf"), "mount what it is on"),
        (("gate-1", "--claims", "/proc/nowhere"), "/proc/nowhere cannot be written to"),
    ],
)
def test_what_would_be_ignored_or_fail_later_is_refused(run: Run, opened: Site, words: tuple[str, ...], sentence: str) -> None:
    code, _, err = run("add", *words)
    assert code == 1 and sentence in err
    with Site.open(opened.folder) as site:
        assert site.registry.boards() == [] and site.registry.tokens() == []


def test_a_bulk_claim_ends(run: Run, opened: Site) -> None:
    assert run("add", "--bulk", "5", "--prefix", "cam")[0] == 0
    code, out, _ = run("revoke", "cam", "--yes")
    assert code == 0 and "it would have taken 5 more boards" in out
    with Site.open(opened.folder) as site:
        (token,) = site.registry.tokens()
        assert not token.valid(NOW) and not token.secret and token.cancelled_at
    code, _, err = run("revoke", "cam", "--yes")
    assert code == 1 and "no board 'cam'" in err


def test_a_claim_that_there_is_none_of_is_not_promised(run: Run, opened: Site, tmp_path: Path) -> None:
    assert run("add", "gate")[0] == 0
    with Site.open(opened.folder) as site, site.registry.transaction() as connection:
        connection.execute("UPDATE boards SET state = 'active' WHERE name = 'gate'")
    code, out, err = run("add", "gate", "--claims", str(tmp_path / "claims"))
    assert code == 1 and out == "" and "active and needs no claim" in err


def test_a_taken_folder_is_refused_before_a_passphrase_is_asked_for(run: Run, opened: Site) -> None:
    code, _, err = run("site", "init", "home")
    assert code == 1 and "holds something already" in err


def test_a_site_is_advised_by_its_whole_path(run: Run, opened: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(opened.folder.parent)
    code, out, _ = run("add", "gate", "--site", opened.folder.name)
    assert code == 0 and f"provision prepare --site {opened.folder} --boot DIR gate" in out


def test_the_audit_says_that_it_knows_nobody_of_that_name(run: Run, opened: Site) -> None:
    code, out, _ = run("audit", "nobody")
    assert code == 0 and out.startswith("Nothing is written about 'nobody'")


def test_bulk_claims_and_approval(run: Run, opened: Site, tmp_path: Path) -> None:
    (tmp_path / "serials").write_text("a1\nb2\n")
    told = listed(run, "add", "--bulk", "2", "--prefix", "cam", "--serials", str(tmp_path / "serials"), "--show-claim")
    assert told["uses"] == 2 and Claim.parse(told["claim"]).token_id == told["token"]
    code, out, _ = run("approve")
    assert (code, out) == (0, "No board waits.\n")
    with opened.registry.transaction() as connection:
        for name in ("cam-1", "cam-2", "cam-3"):
            opened.registry.save_board(connection, Board(name, NOW, "waiting", id_thumbprint=name * 5))
    opened.close()
    assert [board["name"] for board in listed(run, "approve")] == ["cam-1", "cam-2", "cam-3"]
    code, out, _ = run("approve", "cam-1", "cam-9")
    assert code == 1 and "cam-1: approved\nThere is no board 'cam-9'; waiting: cam-2, cam-3." in out
    assert run("approve", "cam-2", "--refuse")[1] == "cam-2: refused\n"
    assert run("approve", "--all")[1] == "cam-3: approved\n"
    assert {board["name"]: board["state"] for board in listed(run, "list")} == {
        "cam-1": "planned",
        "cam-2": "revoked",
        "cam-3": "planned",
    }
    code, out, _ = run("list", "--state", "planned")
    assert "cam-1  planned (enrolling)" in out


def test_the_ca_is_rotated(run: Run, opened: Site, secret: Path, tmp_path: Path) -> None:
    planned(opened, "gate-1")
    certified(opened, "gate-1")
    opened.close()
    assert run("site", "rotate-ca", "--passphrase-file", secret)[1] == "There is a new issuing CA.\n"
    keyfiles.write_private(tmp_path / "wrong", "not this one")
    code, _, err = run("site", "rotate-ca", "--passphrase-file", tmp_path / "wrong")
    assert code == 1 and "The passphrase is not that of" in err
    words = ("site", "rotate-ca", "--new-root", "--passphrase-file", secret, "--new-passphrase-file", secret)
    code, out, _ = run(*words)
    assert code == 0 and "1 boards learn it when they renew" in out and "Make a new backup now" in out
    code, out, _ = run("site", "show")
    assert "1 boards know only the old one" in out
    code, _, err = run("site", "rotate-ca", "--retire-root")
    assert code == 1 and "(gate-1)" in err
    code, out, said = run("site", "rotate-ca", "--retire-root", "--force", "--json")
    assert code == 0 and json.loads(out)["changing_root"] is False and "counts no more" in said
    assert "new backup" in said
    (opened.folder / "root.key.pem").unlink()
    code, _, err = run("site", "rotate-ca")  # asks for no passphrase that could open nothing
    assert code == 1 and "--root-key FILE" in err


def test_what_the_broker_was_not_told_is_no_success(run: Run, opened: Site, secret: Path) -> None:
    Settings(("hub",), elsewhere=True).save(opened, NOW)
    opened.close()
    code, out, err = run("site", "rotate-ca", "--compromised", "--passphrase-file", secret, "--json")
    assert code == 1 and json.loads(out)["told"] is False
    assert "THE BROKER WAS NOT TOLD" in err and "--carried" in err and "From then on the broker refuses" in err


def test_who_is_shut_out_by_a_new_claim_is_so_once_the_broker_knows(run: Run, opened: Site) -> None:
    Settings(("hub",), elsewhere=True, joining=False).save(opened, NOW)
    planned(opened, "gate-1")
    serial = certified(opened, "gate-1").serial
    with opened.registry.transaction() as connection:
        connection.execute("UPDATE boards SET id_thumbprint = 'x' WHERE name = 'gate-1'")
    opened.close()
    code, out, err = run("add", "gate-1", "--new-claim")
    assert code == 1 and "is shut out" in out and "Carry " in err and "Until the broker knows" in err
    assert serial in crl_serials((opened.folder / "broker/crl.pem").read_bytes())
    assert "user gate-1\ntopic deny #" in (opened.folder / "broker/acl-boards").read_text()


def test_the_log_tells_when_it_was_changed(run: Run, opened: Site) -> None:
    with opened.registry.transaction() as connection:
        connection.execute("DROP TRIGGER audit_stays")
        connection.execute("UPDATE audit SET actor = 'bob'")
    opened.close()
    code, _, err = run("audit")
    assert code == 1 and "Line 1 of the audit log was changed" in err


def test_a_passphrase_is_typed_twice_or_comes_from_a_private_file(
    run: Run, secret: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, _, err = run("site", "init", "home")
    assert code == 1 and "--passphrase-file FILE" in err
    secret.chmod(0o644)
    code, _, err = run("site", "init", "home", "--passphrase-file", secret)
    assert code == 1 and "chmod 600" in err
    typed = iter([PASSPHRASE, "something else"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    code, _, err = run("site", "init", "home")
    assert code == 1 and "The two differ" in err
    code, _, err = run("site", "init", "My Home")  # before anything is asked
    assert code == 1 and "cannot name a site" in err
    code, _, err = run("list")
    assert code == 1 and "site init NAME" in err


@pytest.mark.parametrize("text", ["", "5", "h", "0d", "1w", "-1d", "1.5h", "999999d"])
def test_times_are_written_with_a_unit(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="24h"):
        common.duration(text)
    assert [common.duration(right) for right in ("30m", "24h", "7d")] == [1800, 86400, 604800]


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The commands of a parser that do something."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for inner in group.choices.values():
            yield from commands_of(inner)


def test_every_command_has_help_with_an_example() -> None:
    found = {command.prog: command for command in commands_of(cli._parser())}
    assert len(found) > 40
    for name, command in found.items():
        if name != "edgeagent first-boot":  # which no person types
            assert f" {name}" in command.format_help().partition("\nexample")[2], name
        if name.startswith("edgeagent provision "):
            assert "--json" in command._option_string_actions, name
