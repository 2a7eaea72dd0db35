"""The topics stay within the portable MQTT profile and read back to the name that was put in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.wire import topics

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True)


def test_the_topics_are_those_of_the_design() -> None:
    assert topics.hello("porch") == "ea/1/d/porch/hello"
    assert topics.up("porch") == "ea/1/d/porch/up"
    assert topics.device_inbox("porch", "alice") == "ea/1/d/porch/in/alice"
    assert topics.viewer_inbox("alice", "porch") == "ea/1/v/alice/in/porch"
    assert topics.agent_filters("porch") == ("ea/1/d/porch/in/+", "ea/1/d/porch/up")


@given(names, names)
def test_every_topic_is_portable(device: str, viewer: str) -> None:
    topic = topics.device_inbox(device, viewer)
    assert topics.sender_of(topic, device) == viewer
    for made in (topic, topics.viewer_inbox(viewer, device), topics.hello(device), topics.up(device)):
        assert made.count("/") <= 6
        assert re.fullmatch(r"[a-z0-9/-]+", made)
        assert len(made.encode()) <= 160


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_topic_is_a_sender_or_none(topic: str, tail: str) -> None:
    assert topics.sender_of(topic, "porch") is None or topics.is_name(topic.rsplit("/", 1)[1])
    sender = topics.sender_of(f"ea/1/d/porch/in/{tail}", "porch")
    assert sender == (tail if topics.is_name(tail) else None)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "a+", "#", "a b", "a\n", "ä", "x" * 65, "٣"])
def test_a_wrong_name_is_refused(name: str) -> None:
    assert not topics.is_name(name)
    for make in (topics.hello, topics.up, topics.agent_filters):
        with pytest.raises(ValueError, match="is not a name"):
            make(name)
    with pytest.raises(ValueError, match="is not a name"):
        topics.viewer_inbox(name, "porch")
    assert topics.sender_of(f"ea/1/d/porch/in/{name}", "porch") is None
    assert topics.sender_of("ea/1/d/other/in/alice", "porch") is None
