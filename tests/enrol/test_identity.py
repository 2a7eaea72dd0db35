"""What a board stores of its membership, and that no power cut halves it."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgeagent.enrol import keys
from edgeagent.enrol.identity import Identity, Pending, forget, mqtt_options
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire import seal
from edgeagent_provisioning.site import Site
from tests.enrol.conftest import Reply


class PowerCut(BaseException):
    pass


def full(*told: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_identity_is_stored_for_its_owner_only_and_found_again(enrolled: tuple[Path, Identity], away: Site) -> None:
    state, identity = enrolled
    assert Identity.load(state) == identity
    assert (identity.name, identity.pin, identity.site_sig) == ("gate", away.authority.root_pin, away.public_keys["sig"])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in identity.folder.iterdir())
    assert identity.folder.stat().st_mode & 0o777 == 0o700
    assert mqtt_options(identity) == {
        "url": "mqtts://broker.example:8883",
        "ca_file": str(identity.root_file),
        "cert_file": str(identity.cert_file),
        "key_file": str(identity.key_file),
    }
    assert seal.thumbprint(identity.id_key) == identity.id_thumbprint != seal.thumbprint(identity.enc_key)
    assert Identity.load(state / "nowhere") is None


def test_a_retry_asks_with_the_same_keys_and_a_renewal_keeps_the_identity(
    tmp_path: Path, reply: Reply, enrolled: tuple[Path, Identity]
) -> None:
    first, again = Pending(tmp_path / "new"), Pending(tmp_path / "new")
    assert [seal.thumbprint(key) for key in (first.id, first.enc, first.tls)] == [
        seal.thumbprint(key) for key in (again.id, again.enc, again.tls)
    ]
    state, identity = enrolled
    pending = Pending(state, identity)
    assert seal.thumbprint(pending.id) == identity.id_thumbprint
    assert seal.thumbprint(pending.tls) != seal.thumbprint(keys.load(identity.key_file))
    assert seal.thumbprint(Pending(state, identity).tls) == seal.thumbprint(pending.tls)
    assert seal.thumbprint(Pending(state, identity, fresh=True).tls) != seal.thumbprint(pending.tls)


def test_a_power_cut_leaves_the_old_certificate_or_the_new_one(
    enrolled: tuple[Path, Identity], reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, identity = enrolled
    pending = Pending(state, identity)
    answer = reply(pending)
    copy = state.with_name("copy")
    steps = 0

    def cut_at(number: int) -> bool:
        nonlocal steps
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps > number:
                raise PowerCut

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                step()
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((os, "replace"), (Path, "unlink"), (shutil, "rmtree")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            try:
                Pending(state, Identity.load(state)).accept(answer, pin=identity.pin, door="https", now=time.time())
            except PowerCut:
                return True
            return False

    shutil.copytree(state, copy)
    seen = set()
    for number in range(40):
        cut = cut_at(number)
        found = Identity.load(state)
        assert found is not None
        begin, end, serial = keys.check_issued(
            (found.folder / "cert.pem").read_text(),
            (found.folder / "chain.pem").read_text(),
            found.root_file.read_text(),
            name="gate",
            tls=keys.load(found.key_file),
        )
        assert (begin, end, serial) == (found.not_before, found.not_after, found.serial)
        seen.add(serial)
        shutil.rmtree(state)
        shutil.copytree(copy, state)
        if not cut:
            break
    else:
        pytest.fail("it never came to its end")
    assert len(seen) == 2


@pytest.mark.parametrize("cut", [False, True])
def test_no_renewal_exchanges_the_keys_that_stay(enrolled: tuple[Path, Identity], reply: Reply, cut: bool) -> None:
    """Whatever lies there, as an enrolment of an older release that came too late has left it: the site knows these keys alone."""
    state, identity = enrolled
    coming, thumbprint = identity.folder / "next", identity.id_thumbprint
    coming.mkdir()
    for name in ("id.pem", "enc.pem", "tls.pem"):
        keys.write(coming / name, keys.pem(keys.new()))
    if cut:  # that release had begun to put it in place
        keys.write(coming / "ready", "")
    else:
        pending = Pending(state, identity)
        identity = pending.accept(reply(pending), pin=identity.pin, door="https", now=time.time())
    found = Identity.load(state)
    assert found == identity and not coming.exists()
    assert found.id_thumbprint == thumbprint and seal.thumbprint(found.enc_key) != thumbprint


def test_a_board_that_left_its_site_is_not_made_its_member_again(enrolled: tuple[Path, Identity], reply: Reply) -> None:
    state, identity = enrolled
    pending = Pending(state, identity)
    forget(state)
    for late in (lambda: pending.accept(reply(pending), pin="", door="", now=time.time()), lambda: Pending(state, identity)):
        with pytest.raises(EdgeAgentError, match="removed meanwhile"):
            late()
    again = Pending(state)
    made = again.accept(reply(again), pin="", door="", now=identity.enrolled_at + 1)
    with pytest.raises(EdgeAgentError, match="has left the site"):
        pending.accept(reply(pending), pin="", door="", now=time.time())
    assert Identity.load(state) == made


def test_a_full_disk_is_said_and_changes_nothing(
    enrolled: tuple[Path, Identity], reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, identity = enrolled
    pending = Pending(state, identity)
    with monkeypatch.context() as patch:
        patch.setattr(keys, "write", full)
        with pytest.raises(EdgeAgentError, match=r"No space left on device.*make room"):
            pending.accept(reply(pending), pin="", door="", now=time.time())
    assert Identity.load(state) == identity


@pytest.mark.parametrize("change", ["name", "key", "root", "nonsense"])
def test_a_certificate_that_does_not_fit_is_not_taken(tmp_path: Path, reply: Reply, change: str, away: Site) -> None:
    state = tmp_path / "state"
    pending, other = Pending(state), Pending(tmp_path / "other")
    answer = reply(pending)
    if change == "name":
        answer = reply(pending, certificate=reply(pending, "door").certificate)
    elif change == "key":
        answer = reply(pending, certificate=reply(other).certificate)
    elif change == "root":
        made = Site.create(tmp_path / "site", "other", "correct horse", time.time())
        answer = reply(pending, roots=made.authority.roots_pem)
        made.close()
    else:
        answer = reply(pending, certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(PeerError, match="of no use"):
        pending.accept(answer, pin=away.authority.root_pin, door="https", now=time.time())
    assert Identity.load(state) is None


def test_files_that_others_may_read_or_are_damaged_are_refused(enrolled: tuple[Path, Identity]) -> None:
    state, identity = enrolled
    identity.key_file.chmod(0o644)
    with pytest.raises(EdgeAgentError, match="chmod 600"):
        keys.load(identity.key_file)
    (identity.folder / "site.json").write_text("{")
    with pytest.raises(EdgeAgentError, match="edgeagent reset"):
        Identity.load(state)


def test_forgetting_takes_what_the_site_gave_or_everything_and_survives_a_power_cut(
    enrolled: tuple[Path, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = enrolled

    def cut(path: Path) -> None:
        raise PowerCut

    for name in ("orders.json", "desired.0.yaml", "own.json"):
        (state / name).touch()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut)
        with pytest.raises(PowerCut):
            forget(state)
    assert Identity.load(state) is None
    forget(state)
    assert [path.name for path in state.iterdir()] == ["own.json"]
    assert forget(state, everything=True, keep=["own.json"]) == []
    assert forget(state, everything=True) == ["own.json"] and list(state.iterdir()) == []
    assert forget(state / "nowhere") == []


def test_who_asks_at_once_asks_with_the_same_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Pending(tmp_path / "state"), range(4)))
    assert len({keys.pem(pending.tls) for pending in made}) == 1
    assert len({keys.pem(pending.id) for pending in made}) == 1
