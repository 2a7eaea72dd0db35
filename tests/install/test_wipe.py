"""No claim stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps
from edgeagent.install.wipe import wipe_claim

SECRET = "AbCdEfGhIjKlMnOpQrSt_-"
TOKEN = f"0123456789abcdef.{SECRET}"
CLAIM = json.dumps({"v": 1, "u": "https://site:8443", "c": "x" * 43, "t": TOKEN})
COPIES = (
    "etc/edgeagent/claim.json",
    "boot/firmware/user-data",
    "boot/firmware/edgeagent/claim.json",
    "var/lib/cloud/instances/iid-1/user-data.txt",
    "var/lib/cloud/instances/iid-1/user-data.txt.i",
    "var/lib/cloud/instances/iid-1/cloud-config.txt",
    "var/lib/cloud/instances/iid-1/obj.pkl",
    "var/lib/cloud/instances/iid-1/scripts/runcmd",
    "run/cloud-init/instance-data-sensitive.json",
    "run/cloud-init/combined-cloud-config.json",
    "var/log/cloud-init-output.log",
)
OTHERS = ("boot/firmware/config.txt", "boot/firmware/network-config", "var/lib/cloud/instances/iid-1/sem/config_runcmd")


def test_every_copy_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in (*COPIES, *OTHERS):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"before\n{CLAIM}\nafter\n" if name in COPIES else "password: of the Wi-Fi\n")
    # Where it leads is none of ours.
    (tmp_path / "elsewhere").write_text(CLAIM)
    (tmp_path / "var/lib/cloud/instances/iid-1/vendor-data.txt").symlink_to(tmp_path / "elsewhere")
    wiped = wipe_claim(Steps(Places(tmp_path)), CLAIM)
    assert {str(path.relative_to(tmp_path)) for path in wiped} == set(COPIES)
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, text in left.items() if SECRET in text and "elsewhere" not in name and "vendor" not in name] == []
    # cloud-init still finds its own, and the log its other lines.
    assert left["boot/firmware/user-data"].startswith("#cloud-config\n")
    assert left["var/log/cloud-init-output.log"].startswith("before\n") and left["var/log/cloud-init-output.log"].endswith(
        "after\n"
    )
    assert all(left[name] == "password: of the Wi-Fi\n" for name in OTHERS)
    assert wipe_claim(Steps(Places(tmp_path)), TOKEN) == []


def test_without_a_token_nothing_is_touched(tmp_path: Path) -> None:
    with pytest.raises(EdgeAgentError, match="holds no token"):
        wipe_claim(Steps(Places(tmp_path)), "{}")
