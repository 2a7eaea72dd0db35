"""`mqtt: true` of a device, and `home_assistant`."""

from __future__ import annotations

import pytest

from edgeagent.config import Config, Drivers, load
from edgeagent.errors import ConfigError

FILE = """
mqtt: {{url: "mqtt://127.0.0.1"}}
cameras: {{gate: {{driver: test-pattern}}}}
devices:
  garden: {{driver: sim-sensor, mqtt: true}}
  lamp: {{driver: relay, pin: 17}}
{more}
"""


def read(text: str, **variables: str) -> Config:
    return load(text, variables, Drivers.installed())


def test_one_line_turns_it_on_and_off() -> None:
    assert read(FILE.format(more="")).home_assistant is None
    assert read(FILE.format(more="home_assistant: false")).home_assistant is None
    home = read(FILE.format(more="home_assistant: true")).home_assistant
    assert home is not None
    assert (home.prefix, home.allow, home.cameras, home.url) == ("homeassistant", [], [], None)
    assert read(FILE.format(more=""), EDGEAGENT_HOME_ASSISTANT="true").home_assistant == home


def test_with_more() -> None:
    home = read(
        FILE.format(more="home_assistant: {prefix: ha, allow: [lamp], cameras: [gate], url: 'http://a.local/'}")
    ).home_assistant
    assert home is not None
    assert (home.prefix, home.allow, home.cameras, home.url) == ("ha", ["lamp"], ["gate"], "http://a.local/")
    found = read(FILE.format(more=""), EDGEAGENT_HOME_ASSISTANT__PREFIX="ha").home_assistant
    assert found is not None and found.prefix == "ha"


def test_readings_of_a_device() -> None:
    devices = read(FILE.format(more="")).devices
    assert (devices["garden"].mqtt, devices["lamp"].mqtt) == (True, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FILE.format(more="home_assistant: {allow: [attic]}"), "no such entry below `devices`"),
        (FILE.format(more="home_assistant: {cameras: [lamp]}"), "no such entry below `cameras`"),
        (FILE.format(more="home_assistant: {prefix: 'a/b'}"), "a-z, 0-9"),
        (FILE.format(more="home_assistant: {url: 'porch.local'}"), "write the address at which people reach the page"),
        (FILE.format(more="home_assistant: {url: 'http://me:secret@a.local'}"), "everyone would see them"),
        (FILE.format(more="home_assistant: {prefix_: x}"), "there is no such key"),
        (FILE.format(more="home_assistant: 5"), "home_assistant"),
        ("{cameras: {c: {driver: test-pattern}}, home_assistant: true}", "add a section `mqtt: {url: …}`"),
        ("{devices: {g: {driver: sim-sensor, mqtt: true}}}", "`mqtt: true` of g needs a broker"),
    ],
)
def test_what_cannot_be(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
