"""A release from the site's folder, through a board that is not trusted with it, to root."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from functools import partial
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.install import ordered
from edgeagent.install.places import Places
from edgeagent.orders.upgrade import fetch
from edgeagent.wire import seal
from edgeagent.wire.orders import SITE, Upgrade, decode_order
from edgeagent_provisioning import upgrade
from edgeagent_provisioning.site import Site


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def wheelhouse(folder: Path) -> Path:
    wheel = folder / "wheels" / "edgeagent-9.9-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"a wheel")
    digest = hashlib.sha256(b"a wheel").hexdigest()
    (folder / "requirements.txt").write_text(f"edgeagent==9.9 \\\n    --hash=sha256:{digest}\n")
    return folder


def test_root_takes_what_the_site_has_signed_and_nothing_else(site: Site, tmp_path: Path) -> None:
    made = upgrade.archive(site, wheelhouse(tmp_path / "wheelhouse"))
    assert made.release == "9.9" and made.path == site.folder / "releases" / f"{made.sha256}.tar"
    assert upgrade.url_of(site, made) == f"https://site.example:8443/releases/{made.sha256}.tar"
    enc = seal.new_key()
    places = Places(tmp_path / "board")
    for folder in (places.state / "identity", places.etc, places.home):
        folder.mkdir(parents=True)
    (places.state / "identity" / "enc.pem").write_bytes(enc.as_pem(private=True))
    places.signers.write_text(json.dumps({"device": "gate", "sig": site.public_keys["sig"]}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(made.path.parent)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = upgrade.url_of(site, made, f"http://127.0.0.1:{server.server_port}/{made.path.name}")
        body = upgrade.order_for(made, url, ["gate"])["gate"]
        order = decode_order(body)
        assert isinstance(order, Upgrade)
        sealed = partial(seal.seal, to_enc=enc, issuer=SITE, audience="gate", epoch="e", number=5)
        envelope = sealed(body, by_sig=site.keys["sig"])
        for wrong in ({"sha256": "0" * 64}, {"size": made.size - 1}, {"size": made.size + 1}, {"url": url + "x"}):
            with pytest.raises(PeerError) as refused:
                fetch(order.model_copy(update=wrong), envelope, places, site.public_keys["sig"])
            assert refused.value.code == 502 and list(places.orders.iterdir()) == []
        fetch(order, envelope, places, site.public_keys["sig"])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    taken = ordered.take(places)
    assert (taken.number, taken.release) == (5, "9.9")
    assert (taken.wheelhouse / "wheels" / "edgeagent-9.9-py3-none-any.whl").read_bytes() == b"a wheel"
    # An agent that somebody has broken into lays an order of its own.
    (places.orders / "order").write_text(sealed(body, by_sig=seal.new_key()))
    with pytest.raises(EdgeAgentError, match="not one that the site has ordered"):
        ordered.take(places)


def test_only_wheelhouses_are_sent(site: Site, tmp_path: Path) -> None:
    with pytest.raises(EdgeAgentError, match="no wheelhouse"):
        upgrade.archive(site, tmp_path)
