from __future__ import annotations

import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edgeagent.http.metrics import Metric, render
from tests.http.support import door

METRICS = (
    Metric("viewers", "Who watches.", [({}, 3.0)]),
    Metric("camera_frames", "Frames.", [({"camera": "gate"}, 10.0), ({"camera": 'odd "name\\\n'}, 11.0)], "counter"),
    Metric("rtt_seconds", "Unknown yet.", [({}, math.nan)]),
)
TOKEN = "a token of some length"

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_formats(accept: str) -> None:
    body, content_type = render(METRICS, accept)
    assert content_type.startswith(accept.partition(";")[0] or "text/plain")
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    samples = {(s.name, *s.labels.values()): s.value for family in parse(body.decode()) for s in family.samples}
    assert samples["edgeagent_viewers",] == 3
    assert samples["edgeagent_camera_frames_total", "gate"] == 10
    assert samples["edgeagent_camera_frames_total", 'odd "name\\\n'] == 11
    assert math.isnan(samples["edgeagent_rtt_seconds",])
    assert samples["process_resident_memory_bytes",] > 1e6


async def test_it_is_for_those_who_may_watch() -> None:
    async with door(token=TOKEN, metrics=lambda: METRICS) as (_, client):
        async with client.get("/metrics") as refused:
            assert refused.status == 401
            assert "viewers" not in await refused.text()
        for scheme in "Bearer", "bearer":
            async with client.get("/metrics", headers={"Authorization": f"{scheme} {TOKEN}"}) as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"].startswith("text/plain; version=")
                assert answer.headers["Cache-Control"] == "no-store"
                assert "edgeagent_viewers 3.0" in await answer.text()


async def test_without_a_token_whoever_may_watch_may_count() -> None:
    async with door(metrics=lambda: METRICS) as (_, client), client.get("/metrics") as answer:
        assert answer.status == 200
