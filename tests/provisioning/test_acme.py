"""A certificate for browsers by ACME: certbot against Pebble, the test server of Let's Encrypt, and Mosquitto shows it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pwd
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection
from edgeagent_provisioning.broker import acme, files
from edgeagent_provisioning.broker.public import checked_pair, findings
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.site import Site
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.common import PASSPHRASE
from tests.support import require
from tests.support.broker import Certificates
from tests.support.ports import free_ports

HOST = "hub.example.org"
HELLO = "ea/1/d/gate/hello"


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it does not answer"
        threading.Event().wait(0.02)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[acme.Order]:
    """A CA for whom every name leads to this machine."""
    server, names = require("pebble"), require("pebble-challtestsrv")
    require("certbot")
    directory, management, http, dns, orders = free_ports(5)
    certificates = Certificates(tmp_path)
    about = {
        "listenAddress": f"127.0.0.1:{directory}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(certificates.cert),
        "privateKey": str(certificates.key),
        "httpPort": http,
        "tlsPort": orders,
    }
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": about}))
    monkeypatch.setenv("PEBBLE_VA_NOSLEEP", "1")
    monkeypatch.setenv("PEBBLE_WFE_NONCEREJECT", "0")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-management", f"127.0.0.1:{orders}"]
    with contextlib.ExitStack() as stack, (tmp_path / "ca.log").open("wb") as log:
        for words in (
            [names, "-dns01", f"127.0.0.1:{dns}", "-defaultIPv4", "127.0.0.1", *off],
            [server, "-config", str(tmp_path / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"],
        ):
            process = stack.enter_context(subprocess.Popen(words, stdout=log, stderr=log))
            stack.callback(process.kill)
            port = orders if words[0] == names else directory
            until(lambda port=port: answers(port), process)  # type: ignore[misc]
        yield acme.Order(HOST, "ann@example.org", f"https://localhost:{directory}/dir", http, folder=str(tmp_path / "certbot"))


@pytest.mark.realtime(block_limit_s=60)
@pytest.mark.timeout(300)
async def test_a_certificate_is_had_shown_and_renewed(order: acme.Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our hook runs when it is issued, as at each renewal, and writes the broker's files again."""
    now = time.time()
    cert, key = order.pair
    with (
        Site.create(tmp_path / "site", "home", PASSPHRASE, now) as site,
        SiteBroker(site, now, public_host=HOST) as broker,
    ):
        before = shown(broker)
        dataclasses.replace(broker.settings, cert=str(cert), key=str(key)).save(site, now)
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        session = await connected(site, heard)
        assert await asyncio.to_thread(acme.obtain, order, site.folder) == (cert, key)
        checked_pair(cert.read_text(), key.read_text(), HOST, now)
        assert (broker.folder / "viewers.crt").read_text() == cert.read_text()
        (renewal,) = (tmp_path / "certbot/config/renewal").iterdir()
        assert f"provision broker mosquitto --site {site.folder}" in renewal.read_text()
        # Mosquitto's WebSockets keep the first one until it starts again, and that is said; nobody was disconnected.
        assert shown(broker) == before
        assert "start it again" in files.update(site, now).advice
        session.publish(HELLO, "kept", retain=True)
        assert await heard.get() == b"kept"
        await session.close()
        broker.stop()
        broker.start()
        assert shown(broker) == leaf(cert)
        assert files.update(site, now).advice == ""
        (fine,) = findings(site, now)
        assert fine.level == "ok"

        # As after `--here`: the system's Mosquitto, and certbot's timer. Nobody's hand is needed, and nothing retained is lost.
        asked, system = as_on_a_system(broker, site, tmp_path, monkeypatch)
        broker.stop()
        broker.start(system)
        first = shown(broker)
        folders = [f"--{name}-dir={tmp_path / 'certbot' / name}" for name in ("config", "work", "logs")]
        words = [require("certbot"), "renew", "--non-interactive", "--force-renewal", "--no-random-sleep-on-renew", *folders]
        renewed = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=120, check=False)
        assert renewed.returncode == 0, renewed.stdout + renewed.stderr
        assert leaf(cert) != first
        assert asked()
        broker.stop()
        broker.start(system)
        assert shown(broker) == leaf(cert)
        session = await connected(site, heard)
        assert await heard.get() == b"kept"
        await session.close()


def as_on_a_system(
    broker: SiteBroker, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], bool], Path]:
    """Whether a restart was asked for, by systemctl or by the file for which a unit waits; and the system's configuration."""
    for name in ("bin", "conf.d"):
        (tmp_path / name).mkdir()
    told, included = tmp_path / "told", tmp_path / "conf.d/edgeagent.conf"
    (tmp_path / "bin/systemctl").write_text(f'#!/bin/sh\necho "$*" >> {shlex.quote(str(told))}\n')
    (tmp_path / "bin/systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    kept = Settings.load(site)
    assert kept
    settings = dataclasses.replace(kept, folder=str(broker.folder), include=str(included))
    settings.save(site, time.time())
    included.write_text(files.included(settings))
    whole = f"user {pwd.getpwuid(os.geteuid()).pw_name}\nlog_dest stderr\npersistence true\npersistence_location {broker.folder}/\n"
    (tmp_path / "system.conf").write_text(f"{whole}include_dir {included.parent}\n")

    def asked() -> bool:
        return (
            told.exists() and told.read_text() == "restart mosquitto\n"
            if os.geteuid() == 0
            else (broker.folder / "restart").exists()
        )

    return asked, tmp_path / "system.conf"


async def connected(site: Site, heard: asyncio.Queue[bytes]) -> BrokerConnection:
    """The site on its broker."""

    def keep(topic: str, payload: bytes, retained: bool) -> None:
        heard.put_nowait(payload)

    return await BrokerConnection.open(files.client_options(site, time.time()), None, [HELLO], keep)


def leaf(cert: Path) -> bytes:
    """The first certificate of a file, in DER."""
    first = cert.read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(first[0] + first[1])


def shown(broker: SiteBroker) -> bytes:
    """What a browser sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = broker.settings.viewers_port
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname=HOST) as tls:
        return tls.getpeercert(binary_form=True) or b""


def test_what_the_ca_says_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        text = "Saving debug log\nAn unexpected error occurred:\n  Detail: DNS problem: NXDOMAIN looking up A for hub\n"
        return subprocess.CompletedProcess(words, 1, "", text)

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(EdgeAgentError, match="NXDOMAIN"):
        acme.obtain(acme.Order(HOST, folder=str(tmp_path)), tmp_path, run=refused)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EdgeAgentError, match="apt-get install certbot"):
        acme.obtain(acme.Order(HOST), tmp_path)


@pytest.mark.parametrize("host", ["hub.local", "hub", "192.0.2.1", "Hub.example.org", "a b.example", "-x.example.org"])
def test_names_that_no_ca_can_know_are_refused(host: str) -> None:
    with pytest.raises(EdgeAgentError, match="public certificate"):
        acme.command(acme.Order(host), Path("/site"))
    with pytest.raises(EdgeAgentError, match="e-mail"):
        acme.command(acme.Order(HOST, "ann"), Path("/site"))


def test_nothing_of_the_working_directory_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`certbot renew` by hand, in a folder of anybody, runs our hook as root."""
    seen: dict[str, object] = {}

    def run(words: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        seen.update(more, hook=shlex.split(words[words.index("--deploy-hook") + 1]), folder=words[words.index("--config-dir") + 1])
        return subprocess.CompletedProcess(words, 1, "", "")

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgeAgentError, match="No certificate"):
        acme.obtain(acme.Order(HOST, folder="certbot"), Path("site"), run=run)
    assert seen["cwd"] == "/" and seen["folder"] == str(tmp_path / "certbot/config")
    assert seen["hook"] == [
        *(sys.executable, "-I", "-m", "edgeagent", "provision", "broker", "mosquitto", "--site"),
        str(tmp_path / "site"),
    ]


def test_ways_to_prove_the_name() -> None:
    plain = acme.Order(HOST)
    assert "--standalone" in acme.command(plain, Path("/site"))
    assert "--dns-rfc2136" in acme.command(dataclasses.replace(plain, dns="rfc2136"), Path("/site"))
    words = acme.command(dataclasses.replace(plain, webroot="/var/www/x"), Path("/site"))
    assert words[words.index("--webroot-path") + 1] == "/var/www/x"
    assert "--register-unsafely-without-email" in words
    assert plain.pair[0] == Path("/etc/letsencrypt/live/edgeagent-hub.example.org/fullchain.pem")


def test_a_copy_goes_on_where_the_original_may_not_be_read(site: Site) -> None:
    """The service may not read what belongs to root; what it can read must fit together."""
    from edgeagent_provisioning.broker import public

    settings = Settings(("hub",), public_host=HOST, cert="/nowhere/cert", key="/nowhere/key")
    folder = site.folder / "broker"
    with pytest.raises(EdgeAgentError, match="cannot be read"):
        public.pair(settings, folder, time.time())
    folder.mkdir()
    (folder / "viewers.crt").write_text("c")
    (folder / "viewers.key").write_text("k")
    assert public.pair(settings, folder, time.time()) == ("c", "k")
    with pytest.raises(EdgeAgentError, match="PEM"):
        checked_pair("c", "k", HOST, 0)
