"""A rover, a sensor and a lamp behind both doors, and a look at the simulated world itself."""

from __future__ import annotations

import contextlib
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.drivers import DeviceFault
from edgeagent_devices import _sim_link
from edgeagent_devices._sim_link import connect as connect_world
from tests.client.support import ADMIN, BEN, CONFIG, Robot
from tests.support.agents import Agent
from tests.support.broker import Broker


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Worlds of this file alone; those that are left at its end are ended."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RUNTIME_DIRECTORY", raising=False)
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.setattr(_sim_link, "_ANSWER_S", 60.0)
        yield folder
        for path in (folder / "edgeagent-sim").glob("*.sock"):
            with contextlib.suppress(DeviceFault, ProcessLookupError):
                link = connect_world(path.stem)
                pid = link.ask("state")["pid"]
                link.close()
                os.kill(pid, signal.SIGKILL)


def seen(agent: Agent) -> bool:
    try:
        with urllib.request.urlopen(f"{agent.base}/rover.jpg", timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def robot(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A running agent at both doors, whose rover has its world."""
    folder = tmp_path_factory.mktemp("agent")
    operators: dict[str, Any] = {"anna": {"token": ADMIN, "role": "admin"}, "ben": {"token": BEN, "role": "operate"}}
    with Broker(folder) as broker:
        config = CONFIG | {"mqtt": {"url": broker.url}, "control": CONFIG["control"] | {"operators": operators}}
        with Agent(folder, config, env={"GPIOZERO_PIN_FACTORY": "mock"}) as agent:
            agent.wait_healthy()
            agent.wait_said("device lamp: live")
            agent.wait_said("stop of rover")  # once the keeper has it
            agent.wait_for(lambda: seen(agent), "the first picture")  # the world is painted
            with contextlib.closing(connect_world("rover")) as world:
                yield Robot(agent, broker, world)
