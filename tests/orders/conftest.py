from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent_provisioning.site import Site
from tests.orders.pair import World
from tests.provisioning.conftest import made_site, site

__all__ = ["made_site", "site", "world"]


@pytest.fixture
def world(site: Site, tmp_path: Path) -> World:
    return World(site, tmp_path / "boards")
