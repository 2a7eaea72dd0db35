"""Rotation as the site marks it, and who has not renewed."""

from __future__ import annotations

import dataclasses

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning.renewing import rotate, running_out
from edgeagent_provisioning.site import Site
from tests.provisioning.common import DAY, NOW, certified, planned


def active(site: Site, name: str) -> None:
    planned(site, name)
    certified(site, name)
    board = site.registry.board(name)
    assert board is not None
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, dataclasses.replace(board, state="active", enrolled_at=NOW, active_at=NOW))


def test_rotation_marks_all_or_none(site: Site) -> None:
    active(site, "gate")
    planned(site, "door")
    with pytest.raises(EdgeAgentError, match="planned: door"):
        rotate(site, ["gate", "door"], NOW)
    with pytest.raises(EdgeAgentError, match="no board nobody"):
        rotate(site, ["gate", "nobody"], NOW)
    assert [row["rotate_at"] for row in site.registry.rows("SELECT rotate_at FROM boards ORDER BY name")] == [None, None]
    assert [board.name for board in rotate(site, ["gate", "gate"], NOW)] == ["gate"]
    assert [row["rotate_at"] for row in site.registry.rows("SELECT rotate_at FROM boards ORDER BY name")] == [None, NOW + 1]


def test_boards_that_have_not_renewed_are_told(site: Site) -> None:
    active(site, "gate")
    planned(site, "door")
    certified(site, "door")
    assert running_out(site, NOW, 30 * DAY) == {}
    assert running_out(site, NOW + 61 * DAY, 30 * DAY) == {"gate": NOW + 90 * DAY}
    assert running_out(site, NOW + 100 * DAY, 0) == {"gate": NOW + 90 * DAY}
