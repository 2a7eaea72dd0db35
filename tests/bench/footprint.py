"""What the agent costs: memory with one viewer, CPU without viewers, time from its start to `up` on the broker."""

from __future__ import annotations

__all__ = ["run"]

import json
import queue
import statistics
import time

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench import servers
from tests.bench.clips import clip
from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report, Row
from tests.bench.surroundings import broker as broker_running
from tests.support.broker import Broker
from tests.support.whep import Viewers

STARTS = 5


def run(context: Context) -> Report:
    report = Report("footprint", "What the agent costs")
    size = (640, 360) if context.quick else (1920, 1080)
    source = clip(*size, kbps=800 if context.quick else 4000, seconds=10 if context.quick else 60)
    with broker_running() as broker:
        starts = [_start_s(broker) for _ in range(1 if context.quick else STARTS)]
        rows = [
            _cost(context, broker, "test pattern 720p30", TEST),
            _cost(context, broker, f"clip {size[1]}p30", {"driver": "file", "path": str(source)}),
        ]
    report.rows = [row | {"start to up s": statistics.median(starts)} for row in rows]
    for row in rows:
        report.goals.append(Goal(f"memory with one viewer, {row['camera']}", row["RSS with 1 viewer MB"], 120, "MB"))
        report.goals.append(Goal(f"CPU without viewers, {row['camera']}", row["CPU idle %"], 1, "% of a core"))
    report.goals.append(Goal("start to `up`, median", statistics.median(starts), 1.5, "s"))
    return report


def _start_s(broker: Broker) -> float:
    """From the start of the process to the retained message that says it is up."""
    heard: queue.Queue[float] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    began = 0.0

    def received(_: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        if began and json.loads(message.payload or b"{}").get("up") == 1:
            heard.put(time.monotonic())

    client.on_message = received
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        while not client.is_connected():
            time.sleep(0.01)
        client.subscribe("ea/1/d/start/up", qos=1)
        client.publish("ea/1/d/start/up", b"", qos=1, retain=True).wait_for_publish(5)
        began = time.monotonic()
        http = {"listen": f"127.0.0.1:{servers.free_port()}"}
        with servers.Agent({"device": "start", "http": http, "mqtt": {"url": broker.url}, "cameras": {"cam": TEST}}) as agent:
            try:
                return heard.get(timeout=30) - began
            except queue.Empty:
                raise RuntimeError(f"the agent did not come up\n{agent.log}") from None
    finally:
        client.disconnect()
        client.loop_stop()


def _cost(context: Context, broker: Broker, name: str, camera: dict[str, object]) -> Row:
    context.log(name)
    settle_s, window_s = (0.0, 0.5) if context.quick else (1.0, 20.0)
    with servers.ours(camera, mqtt={"url": broker.url}) as server:
        time.sleep(settle_s)
        idle = server.program.cpu_percent(window_s)
        idle_rss = server.program.rss_bytes()
        with Viewers(context.whep_count, server.whep) as viewers:
            viewers.wait_open()
            time.sleep(settle_s)
            busy = server.program.cpu_percent(window_s)
            rss = server.program.rss_bytes()
    return {
        "camera": name,
        "RSS idle MB": idle_rss / 1e6,
        "RSS with 1 viewer MB": rss / 1e6,
        "CPU idle %": idle,
        "CPU with 1 viewer %": busy,
    }
