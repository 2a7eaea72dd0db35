from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.errors import ConfigError
from edgeagent_provisioning import settings as s
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW

values = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
trees = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def board(site: Site, **more: Any) -> Board:
    found = Board("gate", NOW, "active", tags=("garden", "night"), **more)
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, found)
    return found


def test_later_layers_go_before_earlier_ones(site: Site) -> None:
    gate = board(site, cameras={"front": {"driver": "test-pattern"}})
    assert s.of_board(site, gate) == {"cameras": {"front": {"driver": "test-pattern"}}}
    s.write(site, "site", "", {"log": {"level": "info"}, "limits": {"viewers": 4}}, NOW)
    s.write(site, "tag", "garden", {"log": {"level": "debug"}, "http": {"open": True}}, NOW)
    s.write(site, "tag", "night", {"log": {"level": "error"}}, NOW)
    s.write(site, "board", "gate", {"http": None, "cameras": {"front": {"title": "Gate"}}}, NOW)
    assert s.of_board(site, gate) == {
        "cameras": {"front": {"driver": "test-pattern", "title": "Gate"}},
        "log": {"level": "error"},
        "limits": {"viewers": 4},
    }
    assert [name for name, _ in s.layers(site, gate)] == ["the site", "tag garden", "tag night", "its plan", "the board"]
    other = dataclasses.replace(gate, name="barn", tags=(), cameras={})
    assert s.of_board(site, other) == {
        "log": {"level": "info"},
        "limits": {"viewers": 4},
        "devices": {"board": {"driver": "system"}},
    }


def test_nothing_said_is_nothing_ordered(site: Site) -> None:
    assert s.of_board(site, board(site)) is None


def test_another_driver_takes_nothing_over() -> None:
    lower: dict[str, Any] = {"cameras": {"front": {"driver": "rtsp", "url": "rtsp://x/"}}, "log": {"driver": "a", "x": 1}}
    upper = {"cameras": {"front": {"driver": "v4l2", "device": "/dev/video0"}}, "log": {"driver": "b"}}
    assert s.merge(lower, upper) == {
        "cameras": {"front": {"driver": "v4l2", "device": "/dev/video0"}},
        "log": {"driver": "b", "x": 1},
    }
    assert lower["cameras"]["front"]["driver"] == "rtsp"
    title = {"cameras": {"front": {"title": "Gate"}}}
    assert s.merge(title, upper)["cameras"]["front"] == {"title": "Gate", "driver": "v4l2", "device": "/dev/video0"}
    assert s.merge(lower, title)["cameras"]["front"] == {"title": "Gate", "driver": "rtsp", "url": "rtsp://x/"}


@given(trees, trees, trees)
def test_merging_keeps_what_the_upper_says(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    assert s.merge(a, {}) == a and s.merge(a, a) == a
    merged = s.merge(a, b)
    assert s.merge(merged, b) == merged
    assert not [
        line
        for line in s.changed(s.merge({}, b), s.merge({}, merged))
        if line in dict.fromkeys(b) and not isinstance(b[line], dict)
    ]
    assert s.changed(merged, merged) == []


def test_values_are_set_and_removed_by_path() -> None:
    found = s.with_value({"a": {"b": 1}}, "a.c.d", [1])
    assert found == {"a": {"b": 1, "c": {"d": [1]}}}
    assert s.without(found, "a.c.d") == {"a": {"b": 1}}
    for path in ("", "a..b", "a.b.c"):
        with pytest.raises(ConfigError):
            s.with_value({"a": {"b": 1}}, path, 1)
    for path in ("x", "a.x", "a.b.c"):
        with pytest.raises(ConfigError):
            s.without({"a": {"b": 1}}, path)


def test_a_diff_shows_what_changes_and_no_secret(site: Site) -> None:
    secret = "correct-horse-battery"
    before = {
        "http": {"token": secret},
        "log": {"level": "info"},
        "cameras": {"a": {"driver": "rtsp", "url": f"rtsp://u:{secret}@h/1"}},
    }
    after = {"http": {"token": secret + "2"}, "cameras": {"a": {"driver": "rtsp", "url": f"rtsp://u:{secret}2@h/1"}}, "title": "x"}
    lines = s.shown_diff(before, after)
    assert secret not in "\n".join(lines)
    assert '- log.level: "info"' in lines and '+ title: "x"' in lines
    assert "+ http.token: *** (another one)" in lines
    assert '+ cameras.a.url: "rtsp://***@h/1" (another one)' in lines
    s.write(site, "board", "gate", after, NOW)
    (line,) = site.registry.audited("gate")
    assert line.detail["changed"] == ["cameras.a.driver", "cameras.a.url", "http.token", "title"]
    assert secret not in str(site.registry.rows("SELECT detail FROM audit")[-1]["detail"])


def test_settings_are_checked_by_the_agents_own_models() -> None:
    assert s.check({"cameras": {"front": {"driver": "test-pattern"}}}) == ([], [])
    problems, _ = s.check({"cameras": {"front": {"driver": "test-patern"}}, "device": "x", "logg": {}})
    text = "\n".join(map(str, problems))
    assert "no such driver" in text and "logg" in text and "the board's name" in text
    problems, left = s.check({"drivers_dir": "/opt/own", "cameras": {"front": {"driver": "mine"}}})
    assert problems == [] and len(left) == 1 and "the board's own" in left[0]
    assert "bytes" in str(s.check({"cameras": {"front": {"driver": "test-pattern", "title": "x" * 40_000}}})[0][0])
