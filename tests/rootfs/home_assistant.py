"""Runs in the image: Home Assistant's own core and MQTT integration, connected to a broker, and a person who uses it.

    python home_assistant.py PORT EXPECTED     EXPECTED: JSON, the states that are to come about, by entity

Prints a line for each step. Of Home Assistant only what MQTT needs is loaded: the packages of its cloud and of Bluetooth, which it
imports everywhere and uses nowhere here, are played by empty ones.
"""

from __future__ import annotations

import asyncio
import importlib.abc
import importlib.machinery
import json
import logging
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLAYED = {"bleak", "habluetooth", "hass_nabucasa", "home_assistant_bluetooth", "psutil_home_assistant", "turbojpeg"}
PATIENCE_S = 40.0


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Played(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in PLAYED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.append(_Played())

from homeassistant import bootstrap, config_entries, loader  # type: ignore[import-not-found]  # noqa: E402
from homeassistant.core import HomeAssistant  # type: ignore[import-not-found]  # noqa: E402


class Complaints(logging.Handler):
    """What Home Assistant warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.of_mqtt = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")
        self.of_mqtt += record.name.startswith("homeassistant.components.mqtt")
        if record.exc_info:
            self.lines += traceback.format_exception(*record.exc_info)


def say(step: str) -> None:
    print(f"step: {step}", flush=True)


async def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SystemExit(f"did not come about: {what()}") from None


async def main(port: int, expected: dict[str, Any], folder: str) -> None:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    (Path(folder) / "configuration.yaml").touch()
    hass = HomeAssistant(folder)
    hass.config.skip_pip = True
    hass.config.external_url = hass.config.internal_url = None
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await loader.async_get_custom_components(hass)
    await bootstrap.async_load_base_functionality(hass)
    # Its dependencies serve uploads of certificates over HTTP, which nobody makes here.
    hass.config.components |= {"http", "file_upload"}
    hass.http = types.SimpleNamespace(register_view=lambda view: None)
    entry = config_entries.ConfigEntry(
        data={"broker": "127.0.0.1", "port": port},
        discovery_keys=types.MappingProxyType({}),
        domain="mqtt",
        minor_version=2,
        options={},
        source="user",
        subentries_data=(),
        title="broker",
        unique_id=None,
        version=1,
    )
    await hass.config_entries.async_add(entry)
    await hass.async_start()
    if entry.state is not config_entries.ConfigEntryState.LOADED:
        raise SystemExit("\n".join(["MQTT did not start", *complaints.lines]))
    say("connected")

    def state(entity: str) -> str | None:
        found = hass.states.get(entity)
        return found.state if found else None

    def seen() -> str:
        lines = [f"{s.entity_id}={s.state}" for s in hass.states.async_all()]
        return "\n".join(["states:", *lines, "complaints:", *complaints.lines])

    async def states(**wanted: str) -> None:
        wanted = {name.replace("__", "."): value for name, value in wanted.items()}
        await until(lambda: all(state(name) == value for name, value in wanted.items()), lambda: f"{wanted}\n{seen()}")

    async def call(domain: str, service: str, entity: str, **data: Any) -> None:
        await hass.services.async_call(domain, service, {"entity_id": entity, **data}, blocking=True)

    def fits(entity: str, wanted: Any) -> bool:
        value = state(entity)
        return value not in (None, "unknown", "unavailable") if wanted is True else value == wanted

    await until(lambda: all(fits(*item) for item in expected.items()), seen)
    say("announced")
    if extra := sorted({s.entity_id for s in hass.states.async_all()} - set(expected)):
        raise SystemExit(f"more than expected: {extra}")

    await call("switch", "turn_on", "switch.porch_lamp")
    await states(switch__porch_lamp="on")
    await call("switch", "turn_off", "switch.porch_lamp")
    await states(switch__porch_lamp="off")
    say("switched")
    await call("light", "turn_on", "light.porch_strip", brightness=128)
    await states(light__porch_strip="on")
    await until(lambda: abs(hass.states.get("light.porch_strip").attributes["brightness"] - 128) <= 2, seen)
    await call("light", "turn_off", "light.porch_strip")
    await states(light__porch_strip="off")
    await call("light", "turn_on", "light.porch_strip")
    await until(lambda: hass.states.get("light.porch_strip").attributes["brightness"] == 255, seen)
    say("dimmed")
    await call("button", "press", "button.porch_door_pulse")
    await states(switch__porch_door="on")
    await states(switch__porch_door="off")
    say("pulsed")
    from homeassistant.components.camera import async_get_image  # type: ignore[import-not-found]

    picture: list[bytes] = []

    async def look() -> None:
        while not picture:
            try:
                picture.append((await async_get_image(hass, "camera.porch_gate")).content)
            except Exception:
                await asyncio.sleep(0.2)

    async with asyncio.timeout(PATIENCE_S):
        await look()
    assert picture[0].startswith(b"\xff\xd8"), picture[0][:20]
    say("looked")
    if complaints.of_mqtt:
        raise SystemExit(seen())

    # It is no pushover: what is wrong is refused.
    from homeassistant.components import mqtt  # type: ignore[import-not-found]

    part = {"p": "sensor", "uniq_id": "w1", "stat_t": "t/w", "dev_cla": "temperature", "unit_of_meas": "%", "name": "Wrong"}
    wrong = {"dev": {"ids": ["w"]}, "o": {"name": "w"}, "cmps": {"w1": part}}
    for number, document in enumerate((wrong, {**wrong, "o": {}}, {**wrong, "cmps": {"w1": {"p": "sensor", "stat_t": "t/w"}}})):
        before = complaints.of_mqtt
        await mqtt.async_publish(hass, f"homeassistant/device/wrong{number}/config", json.dumps(document))
        await until(lambda before=before: complaints.of_mqtt > before, seen)  # type: ignore[misc]
    assert state("sensor.wrong") is None, seen()
    say("refused what is wrong")

    say("kill the agent")
    await until(lambda: all(state(name) == "unavailable" for name in expected), seen)
    say("unavailable")
    await hass.async_stop()
    say("done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as config:
        asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2]), config))
