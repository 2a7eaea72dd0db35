from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import viewers
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, planned


def test_a_browser_is_let_in_and_shut_out(site: Site) -> None:
    planned(site, "gate")
    made, password = viewers.add(site, "Anna's phone", NOW, ["gate", "gate"])
    assert len(password) >= 22
    assert made.boards == ("gate",)
    assert viewers.active(site) == [made]
    assert made.password not in repr(made)
    with pytest.raises(EdgeAgentError, match="has a user already"):
        viewers.add(site, "Anna's phone", NOW)
    gone = viewers.revoke(site, "Anna's phone", NOW + 1)
    assert gone.name == made.name
    assert viewers.active(site) == []
    (kept,) = viewers.listed(site)
    assert (kept.password, kept.revoked_at) == ("", NOW + 1)
    viewers.add(site, "Anna's phone", NOW + 2)  # a new one, with another user
    assert len({viewer.name for viewer in viewers.listed(site)}) == 2
    log = str([tuple(row) for row in site.registry.rows("SELECT action, detail FROM audit")])
    assert "viewer revoke" in log
    assert password not in log
    assert made.password not in log


@pytest.mark.parametrize(
    ("label", "boards", "sentence"), [("", [], "whose browser"), ("x" * 81, [], "whose"), ("a", ["no"], "no board")]
)
def test_what_is_wrong_is_said(site: Site, label: str, boards: list[str], sentence: str) -> None:
    with pytest.raises(EdgeAgentError, match=sentence):
        viewers.add(site, label, NOW, boards)
    with pytest.raises(EdgeAgentError, match="viewer ls"):
        viewers.revoke(site, "nobody", NOW)


def test_the_link_tells_the_page_in_its_fragment_only() -> None:
    link = viewers.link("https://page.example/", "wss://hub.example:8884/mqtt", "v-1", "a&b#c", "gate")
    parts = urlsplit(link)
    assert (parts.netloc, parts.path, parts.query) == ("page.example", "/", "")
    found = {key: values[0] for key, values in parse_qs(parts.fragment).items()}
    assert found == {"device": "gate", "broker": "wss://hub.example:8884/mqtt", "user": "v-1", "password": "a&b#c"}
