"""An upgrade that the site ordered, as root judges it: of what the agent can lay there only the signature is believed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.install import ordered
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps
from edgeagent.wire import seal
from edgeagent.wire.orders import SITE, OrderPing, Upgrade


class Board:
    """A board that belongs to a site, in a folder of the test's."""

    def __init__(self, root: Path) -> None:
        self.places = Places(root)
        self.steps = Steps(self.places, say=lambda line: None)
        self.sig, self.enc = seal.new_key(), seal.new_key()
        identity = self.places.state / "identity"
        identity.mkdir(parents=True)
        self.places.orders.mkdir()
        self.places.home.mkdir(parents=True)
        (identity / "site.json").write_text(json.dumps({"name": "porch", "sig": seal.public_jwk(self.sig)}))
        (identity / "enc.pem").write_bytes(self.enc.as_pem(private=True))
        self.archive = tar({"requirements.txt": b"edgeagent==1.1\n", "wheels/edgeagent-1.1-py3-none-any.whl": b"wheel"})
        (self.places.orders / "archive.tar").write_bytes(self.archive)

    def lay(self, number: int = 5, *, by: seal.ECKey | None = None, to: str = "porch", body: dict[str, Any] | None = None) -> None:
        fine = Upgrade(
            release="1.1", url="https://site/1.1.tar", sha256=hashlib.sha256(self.archive).hexdigest(), size=9
        ).model_dump()
        text = seal.seal(
            body or fine,
            to_enc=seal.public_jwk(self.enc),
            by_sig=by or self.sig,
            issuer=SITE,
            audience=to,
            epoch="e",
            number=number,
        )
        (self.places.orders / "order").write_text(text)

    def refused(self, why: str) -> None:
        with pytest.raises(EdgeAgentError, match=why):
            ordered.take(self.places)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    found = Board(tmp_path)
    assert ordered.pin(found.steps)
    return found


def tar(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return out.getvalue()


def test_what_the_site_has_signed_is_unpacked_once(board: Board) -> None:
    board.lay()
    taken = ordered.take(board.places)
    assert (taken.number, taken.release) == (5, "1.1")
    assert (taken.wheelhouse / "wheels" / "edgeagent-1.1-py3-none-any.whl").read_bytes() == b"wheel"
    ordered.done(board.steps, taken)
    assert not (board.places.orders / "order").exists()
    assert json.loads((board.places.home / "ordered.json").read_text()) == {"number": 5, "release": "1.1", "problem": ""}
    # Kept by who has broken into the agent, and laid there again later, to bring an old release back.
    (board.places.orders / "archive.tar").write_bytes(board.archive)
    for number in 5, 4:
        board.lay(number)
        board.refused("ordered before")


def test_what_is_not_signed_by_the_pinned_site(board: Board) -> None:
    other = seal.new_key()
    board.lay(by=other)
    # The agent can write whom it belongs to, but not whom root believes.
    identity = board.places.state / "identity" / "site.json"
    identity.write_text(json.dumps({"name": "porch", "sig": seal.public_jwk(other)}))
    board.refused("not one that the site has ordered")
    board.lay(to="gate")
    board.refused("not one that the site has ordered")
    board.lay(body=OrderPing().model_dump())
    board.refused("another order")
    (board.places.orders / "order").write_text("x" * 70_000)
    board.refused("too large")
    board.places.signers.unlink()
    board.refused("--pin")


def test_another_archive(board: Board) -> None:
    board.lay()
    path = board.places.orders / "archive.tar"
    path.write_bytes(board.archive[:-1] + b"x")
    board.refused("its hash differs")
    path.unlink()
    path.symlink_to("/etc/passwd")
    board.refused("cannot be read")
    path.unlink()
    os.mkfifo(path)
    board.refused("is no file")


def test_only_a_wheelhouse_comes_out_of_an_archive(board: Board) -> None:
    link = tarfile.TarInfo("wheels/edgeagent-9-py3-none-any.whl")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    names = ("../out.whl", "/wheels/a.whl", "wheels/../../b.whl", "wheels/sub/c.whl", "wheels/d.py", "e.txt")
    board.archive = tar({"requirements.txt": b"", **dict.fromkeys(names, b"bad")}, link)
    (board.places.orders / "archive.tar").write_bytes(board.archive)
    board.lay()
    taken = ordered.take(board.places)
    assert [str(path.relative_to(taken.wheelhouse)) for path in taken.wheelhouse.rglob("*")] in (
        ["requirements.txt", "wheels"],
        ["wheels", "requirements.txt"],
    )
    assert b"bad" not in b"".join(path.read_bytes() for path in board.places.root.rglob("*.whl"))
