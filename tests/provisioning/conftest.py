from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, PASSPHRASE


@pytest.fixture(scope="session")
def made_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site to copy; making one takes a quarter of a second, for the passphrase's sake."""
    folder = tmp_path_factory.mktemp("made") / "site"
    urls, brokers = ["https://site.example:8443"], ["mqtts://site.example:8883"]
    Site.create(folder, "home", PASSPHRASE, NOW, urls=urls, brokers=brokers, actor="ann").close()
    return folder


@pytest.fixture
def site(made_site: Path, tmp_path: Path) -> Iterator[Site]:
    with Site.open(shutil.copytree(made_site, tmp_path / "site"), actor="ann") as opened:
        assert opened.registry.boards() == []  # open before the test begins, which would be blamed for its files
        yield opened
