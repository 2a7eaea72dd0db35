from __future__ import annotations

import io

from rich.console import Console

from edgeagent.wire.orders import settings_version
from edgeagent_provisioning import settings, watch
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from edgeagent_provisioning.site_orders import put
from tests.provisioning.common import NOW, certified


def test_the_table_tells_how_each_board_is(site: Site) -> None:
    wanted = {"cameras": {"front": {"driver": "test-pattern"}}}
    version = settings_version(wanted)
    with site.registry.transaction() as connection:
        for name in ("gate", "barn", "shed", "porch", "attic"):
            cameras = {} if name == "attic" else wanted["cameras"]
            site.registry.save_board(
                connection,
                Board(name, NOW, "active", cameras=cameras, online=name == "gate", seen_at=NOW, tags=("out",) * (name == "gate")),
            )
        rows = [
            ("gate", version, version, "", ""),
            ("barn", version, "", version, "[red]version x was taken back[/red]\nmore"),
            ("shed", version, "", "", ""),
        ]
        connection.executemany("INSERT INTO fleet (board, released_version, effect, refused, note) VALUES (?, ?, ?, ?, ?)", rows)
        put(connection, "shed", {"v": 1, "t": "settings", "settings": wanted, "version": version}, NOW, NOW + 60)
    certified(site, "gate")
    found = {row.name: row for row in watch.rows(site, NOW + 3_600)}
    states = {name: row.settings for name, row in found.items()}
    assert states == {"gate": "in force", "barn": "refused", "shed": "waiting", "porch": "changed", "attic": ""}
    assert found["shed"].order == "settings: waiting" and found["gate"].expires_s and found["barn"].expires_s is None
    settings.write(site, "tag", "out", {"log": {"level": "debug"}}, NOW)
    (gate,) = watch.rows(site, NOW, "out")
    assert gate.settings == "changed"
    out = io.StringIO()
    Console(file=out, width=200).print(watch.table(watch.rows(site, NOW + 3_600)))
    text = out.getvalue()
    assert "1 of 5 boards online" in text and "[red]version x was taken back" in text and "60 min ago" in text
