"""The agent and a site's machine under a running systemd: `make test-vm`. It takes some minutes, and runs only there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeagent_provisioning import wheelhouse
from tests.rootfs.board import PYTHON, wheels
from tests.support.components import require
from tests.vm.live import Live, release

pytestmark = [pytest.mark.vm, pytest.mark.e2e, pytest.mark.timeout(1800)]
_HEAD = "from __future__ import annotations\n"
DIES = {"edgeagent/app.py": (_HEAD, f"{_HEAD}import os\nif 'NOTIFY_SOCKET' in os.environ: raise SystemExit('it does not run')\n")}
MUTE = {"edgeagent_provisioning/cli/serve.py": (_HEAD, f"{_HEAD}import sys\nif 'serve' in sys.argv: raise SystemExit('no')\n")}


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Releases: `first`, `second`, `third`; `broken` passes its test and does not run, with `mute` the site's service does not."""
    for component in ("root", "mmdebstrap", "nsenter", "unshare"):
        require(component)
    share = tmp_path / "share"
    share.mkdir()
    fetched = wheels(wheelhouse.lock_text())
    with monkeypatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(fetched))
        first = wheelhouse.make(share / "first", machine=os.uname().machine, pythons=[PYTHON]).folder
    release(first, share / "second", "99.1", {})
    release(first, share / "broken", "99.2", DIES)
    release(first, share / "mute", "99.3", MUTE)
    release(first, share / "third", "99.4", {})
    return share


def install(live: Live, words: str) -> str:
    """As a card does it: by the code in the wheel."""
    return live.done(f"PYTHONPATH=$(echo /mnt/share/first/wheels/edgeagent-*.whl) python3 -P -B -m edgeagent install {words}")


def test_the_agent_is_installed_upgraded_taken_back_and_removed(tmp_path: Path, share: Path) -> None:
    page = 8080
    (share / "own.yaml").write_text(json.dumps({"http": {"listen": f"127.0.0.1:{page}"}, "devices": {"b": {"driver": "system"}}}))
    healthy = f"python3 -c 'import urllib.request; urllib.request.urlopen(\"http://127.0.0.1:{page}/healthz\", timeout=5)'"
    with Live(tmp_path / "live", share) as live:
        install(live, "--wheelhouse /mnt/share/first --config /mnt/share/own.yaml")
        live.until(healthy, "the agent's page")
        pid = live.done("systemctl show --value --property=MainPID edgeagent")
        assert live.done(f"ps -o user= -p {pid}") == "edgeagent"
        assert live.done("stat -c '%U %a' /var/lib/edgeagent") == "edgeagent 700"
        assert live.done("systemctl is-enabled edgeagent edgeagent-upgrade.path").split() == ["enabled", "enabled"]

        # Whatever ends it, it comes back.
        live.done(f"kill -9 {pid}")
        live.until(f"test $(systemctl show --value --property=MainPID edgeagent) -gt 0 && {healthy}", "it to come back")

        first = live.done("edgeagent --version")
        live.done("edgeagent upgrade --wheelhouse /mnt/share/second")
        assert live.done("edgeagent --version") == "edgeagent 99.1" != first
        live.until(healthy, "the second release")

        # One that does not run is taken back, and is not left lying.
        code, said = live.run("edgeagent upgrade --wheelhouse /mnt/share/broken")
        assert code == 1 and "going back to 99.1" in said, said
        assert live.done("edgeagent --version") == "edgeagent 99.1"
        assert "99.2" not in live.done("ls /opt/edgeagent/releases")
        live.until(healthy, "the second release again")
        assert live.done("edgeagent upgrade --back") and live.done("edgeagent --version") == first
        live.until(healthy, "the first release")

        # What the agent lays there is refused as often as it comes, and the next is looked at all the same.
        laid = "install -d -o edgeagent -m 700 /var/lib/edgeagent/upgrade && echo junk > /var/lib/edgeagent/upgrade/order"
        for _ in range(7):
            live.done(laid)
            live.until("! test -e /var/lib/edgeagent/upgrade/order", "root to look at it")
        assert live.done("systemctl is-active edgeagent-upgrade.path") == "active"

        live.done("edgeagent uninstall --purge")
        for gone in ("/opt/edgeagent", "/etc/edgeagent", "/var/lib/edgeagent", "/etc/systemd/system/edgeagent.service"):
            assert live.run(f"test -e {gone}")[0] == 1, gone
        assert live.run("id edgeagent")[0] == 1 and live.run("systemctl is-active edgeagent")[0] != 0


def test_a_machine_becomes_the_site(tmp_path: Path, share: Path) -> None:
    """`site init --here` with the distribution's own Mosquitto, whose ports are the usual ones."""
    (share / "passphrase").write_text("correct horse battery\n")
    (share / "passphrase").chmod(0o600)
    with Live(tmp_path / "live", share) as live:
        install(live, "--wheelhouse /mnt/share/first --site --no-start")
        # What `--here` installs is there: its own step finds nothing left to do, since this system has no network.
        live.done("apt-get update && apt-get install --yes --no-install-recommends mosquitto", online=True)
        init = "edgeagent provision site init home --here --host localhost --passphrase-file /mnt/share/passphrase"
        assert "8443/tcp" in live.done(init)
        live.until("systemctl is-active edgeagent-site mosquitto", "service and broker")
        assert live.done("ps -o user= -C mosquitto") == "mosquitto"
        assert (
            live.done("stat -c %U /var/lib/edgeagent-site/site.json /var/lib/edgeagent-site/issuing.key").split()
            == ["edgeagent-site"] * 2
        )
        assert "All is well." in live.done("edgeagent provision broker check")

        # Root acts with the service's rights: what it leaves behind is the service's, which learns of it and goes on.
        live.done("edgeagent provision add gate --claims /srv/claims")
        live.done("edgeagent enrol --state /srv/gate /srv/claims/gate.json --wait")
        live.until("edgeagent provision list --json | grep -q '\"active\"'", "the board to be active")
        live.done("edgeagent provision site rotate-ca --passphrase-file /mnt/share/passphrase")
        assert set(live.done("find /var/lib/edgeagent-site -printf '%u\\n'").split()) == {"edgeagent-site"}
        # Of another listener root alone can tell Mosquitto, and does.
        live.done("edgeagent provision broker mosquitto --boards-port 18883")
        live.until("grep -q 'listener 18883' /etc/mosquitto/conf.d/edgeagent.conf", "the listener")
        assert "All is well." in live.done("edgeagent provision broker check")
        live.done("edgeagent provision revoke gate --yes")
        assert live.done("systemctl is-active edgeagent-site mosquitto").split() == ["active", "active"]
        assert live.done(init)  # again: nothing is undone
        assert "All is well." in live.done("edgeagent provision broker check")
        begins_anew(live)
        upgrades(live)


def begins_anew(live: Live) -> None:
    """A board of the site that is told to: in systemd's eyes it goes on, also after the time that a service has for its end."""
    connected = "systemctl show --value --property=StatusText edgeagent | grep -q 'broker connected'"
    live.done("edgeagent provision add yard --claims /srv/claims")
    live.done("edgeagent enrol /srv/claims/yard.json --wait")
    live.done("systemctl restart edgeagent")
    live.until(connected, "the board to reach its broker")
    how = "systemctl show --property=ActiveState,MainPID,NRestarts edgeagent"
    before = live.done(how)
    live.done("edgeagent provision restart yard")
    live.until("journalctl -u edgeagent | grep -q 'beginning anew: the site wants it'", "it to begin anew")
    live.until(f"journalctl -u edgeagent | sed '1,/beginning anew/d' | grep -q 'listening on' && {connected}", "it to run again")
    live.done("sleep 35")
    assert live.done(how) == before and "ActiveState=active" in before
    assert live.run(connected)[0] == 0


def upgrades(live: Live) -> None:
    """Of the site's machine, which an older release has made: its service named that very release."""
    service = "tr '\\0' ' ' < /proc/$(systemctl show --value --property=MainPID edgeagent-site)/cmdline"
    drop_in = "/etc/systemd/system/edgeagent-site.service.d/here.conf"
    first = live.done("readlink -f /opt/edgeagent/current")
    live.done(f"sed -i 's|/opt/edgeagent/current/|{first}/|' {drop_in}")
    live.done("systemctl daemon-reload && systemctl restart edgeagent-site")
    live.until(f"{service} | grep -q '{first}/bin/edgeagent provision serve'", "the service as it was")
    live.done("edgeagent upgrade --wheelhouse /mnt/share/second")
    assert "/opt/edgeagent/current/bin/edgeagent" in live.done(f"cat {drop_in}")
    assert "/releases/99.1" in live.done(service)

    # One that is well as an agent, and not as a site: both go back.
    code, said = live.run("edgeagent upgrade --wheelhouse /mnt/share/mute")
    assert code == 1 and "going back to 99.1" in said, said
    live.until(f"{service} | grep -q /releases/99.1", "the service of before")

    live.done("edgeagent upgrade --wheelhouse /mnt/share/third")
    assert live.run(f"test -e {first}")[0] == 1  # what had made the site is gone
    assert "/releases/99.4" in live.done(service)
    assert "All is well." in live.done("edgeagent provision broker check")
