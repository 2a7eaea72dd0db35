from __future__ import annotations

import secrets

from prometheus_client.parser import text_string_to_metric_families as parse

from edgeagent.core.arbiter_events import ArbiterConfig
from edgeagent.core.principals import Principals
from edgeagent.desk import Desk
from edgeagent.figures_control import ControlFigures
from edgeagent.http.metrics import render
from edgeagent.keeper.client import Keeper
from edgeagent.wire.keeper import KeptDevice
from tests.support.control import LAMP, ROVER


class Nobody:
    """Channels that are never open."""

    def send_data(self, viewer: str, label: str, text: str) -> bool:
        return False


def read(figures: ControlFigures) -> dict[tuple[str, ...], float]:
    """By name and labels' values."""
    body, _ = render(figures(), "")
    return {
        (s.name.removeprefix("edgeagent_"), *s.labels.values()): s.value
        for family in parse(body.decode())
        for s in family.samples
        if s.name.startswith("edgeagent_")
    }


async def test_what_happened_is_counted_and_what_did_not_is_0() -> None:
    config = ArbiterConfig(devices=(ROVER, LAMP))
    desk = Desk(config, channels=Nobody(), principals=Principals({}, secrets.token_bytes), captured_at=lambda *_: None)
    keeper = Keeper([KeptDevice(name="rover", driver="sim-rover")], desk)
    figures = ControlFigures(desk, keeper)
    before = read(figures)
    assert before["device_phase", "rover", "starting"] == 1
    assert before["device_phase", "lamp", "live"] == 0
    assert before["control_stops_total", "silence"] == before["control_set_points_total", "applied"] == 0
    assert before["keeper_up",] == before["keeper_set_points_refused_total", "late"] == 0

    desk.device("lamp", "live", "")
    desk.opened("v1", "events")
    desk.message("v1", "events", '{"t":"stop","id":1}')
    desk.message("v1", "events", '{"t":"reset","id":2}')
    desk.message("v1", "events", '{"t":"sign_in","id":3,"token":"a guess"}')
    desk.message("v1", "control", '{"t":"set","group":"drive","lease":1,"seq":1,"at":0,"values":{}}')
    desk.message("v1", "control", '{"t":"set"}')
    keeper.set({"rover": {"throttle": 1.0}}, 1.0)
    keeper.starts, keeper.refused = 2, {"late": 7}
    after = read(figures)
    assert {key: value for key, value in after.items() if value != before[key]} == {
        ("device_phase", "lamp", "starting"): 0,
        ("device_phase", "lamp", "live"): 1,
        ("control_set_points_total", "lease"): 1,
        ("control_stops_total", "stop"): 1,
        ("control_messages_dropped_total", "malformed"): 1,
        ("control_messages_dropped_total", "unsent_acks"): 1,
        ("control_requests_refused_total",): 1,
        ("control_sign_ins_refused_total",): 1,
        ("keeper_starts_total",): 2,
        ("keeper_set_points_replaced_total",): 1,
        ("keeper_set_points_refused_total", "late"): 7,
    }
    await desk.close()
    assert ("keeper_up",) not in read(ControlFigures(desk, None))
