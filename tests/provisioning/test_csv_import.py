from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.wire import topics
from edgeagent_provisioning import csv_import
from edgeagent_provisioning.broker.names import reserved
from edgeagent_provisioning.csv_import import COLUMNS, Row, parse


def told(text: str | bytes) -> list[str]:
    rows, problems = parse(text if isinstance(text, bytes) else text.encode())
    assert problems or rows
    return [str(problem) for problem in problems]


def test_a_whole_row() -> None:
    text = (
        "Name; serial;cameras;drivers;wifi;place;tags\r\n"
        '"gate-1";10000000A1B2;"front:picamera2 yard:v4l2";led;Home:correct horse;"Tor; Nord";out north\r\n'
        "\r\n"
        "gate-2;;picamera2;;;;\r\n"
        'gate-3;;"{""front"": {""driver"": ""picamera2"", ""title"": ""Tor""}}";;"{""ssid"": ""a:b"", ""psk"": """"}";;\r\n'
    )
    rows, problems = parse(b"\xef\xbb\xbf" + text.encode())
    assert problems == []
    assert rows == [
        Row(
            2,
            "gate-1",
            "10000000a1b2",
            "Tor; Nord",
            ("out", "north"),
            {"front": {"driver": "picamera2"}, "yard": {"driver": "v4l2"}},
            {"led": {"driver": "led"}},
            {"ssid": "Home", "psk": "correct horse"},
        ),
        Row(4, "gate-2", cameras={"camera": {"driver": "picamera2"}}),
        Row(5, "gate-3", cameras={"front": {"driver": "picamera2", "title": "Tor"}}, wifi={"ssid": "a:b", "psk": ""}),
    ]


def test_everything_wrong_is_told_at_once_with_row_and_column() -> None:
    text = (
        "name,serial,cameras,wifi,tags,place\n"
        "Gate 1,,,,,\n"
        "gate-2,a b,front=picamera2,Home:short,Out,\n"
        "gate-3,x1,,,,\n"
        "gate-3,X1,a b,,,too,many\n"
        ",y,,,,\n"
        "gate-3,X1,a:b a:c,{,,\n"
        "site,,,,,\n"
        "gate-4,,,Home,,\n"
        'gate-5,,,"{""ssid"": ""Home""}",,\n'
        "gate-6,,,Home:,,\n"
    )
    assert told(text) == [
        "row 2, name: Gate 1 cannot name a board: use a-z, 0-9 and inner hyphens, at most 64: write gate-1",
        "row 3, serial: 'a b' is no serial number: use letters, digits, `.`, `_` and `-`, at most 64, like 10000000a1b2c3d4.",
        "row 3, tags: Out is no tag: use a-z, 0-9 and inner hyphens",
        "row 3, cameras: front=picamera2 is not name:driver, like front:picamera2",
        "row 3, wifi: the key must have 8 to 63 characters (ASCII): write SSID:key",
        "row 5: has 7 cells, more than there are columns: put quotes around text with separators",
        "row 6, name: is missing: use a-z, 0-9 and inner hyphens, at most 64, like gate-1",
        "row 7, cameras: a is there twice: write name:driver for each, like front:picamera2",
        'row 7, wifi: is no JSON: every { and " must be closed (in a CSV file each " inside a cell is written twice)',
        "row 8, name: site is one of the broker's own users: take another, like board-site",
        "row 9, wifi: has no key: write SSID:key, or SSID: with nothing after it for an open network",
        'row 10, wifi: write JSON like {"ssid": "Home", "psk": "…"}, with "psk": "" for an open network',
    ]


def test_names_and_serials_are_there_once() -> None:
    assert told("name,serial\ngate-1,A\ngate-2,b\ngate-1,c\ngate-3,a\n") == [
        "row 4, name: gate-1 is in row 2 already",
        "row 5, serial: a is in row 2 already",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "the file: it is empty"),
        (b"name\n", "it has no boards"),
        (b"nmae,place\ngate-1,x\n", "row 1, nmae: there is no such column; did you mean `name`?"),
        (b"place\nx\n", "row 1, name: is missing"),
        (b"name,name\nx,y\n", "row 1, name: is there twice"),
        (b"name,,place\nx,y,z\n", "row 1: a column has no name"),
        ("name\nTür".encode("latin-1"), "it is not UTF-8"),
        (b"name\0", "it is no text"),
        (b'name,place\ngate-1,"no end\n', "row 2: the quotes are not right"),
        (b"x" * 8_000_001, "more than 8 MB"),
        (b"name,place\n" + b"\n" * 10_000 + b"gate-1,x\n", "more than 10000 rows"),
        ("name,place\ngate-1," + "x" * 9_000, "row 2, place: is longer than 8000 characters"),
    ],
)
def test_files_that_are_no_list(text: bytes | str, sentence: str) -> None:
    assert any(sentence in line for line in told(text)), told(text)


def test_the_wifi_key_is_not_repeated() -> None:
    rows, problems = parse(b"name,wifi\ngate-1,Home:\xc3\xa4 secret\ngate-2,x:secret-key\n")
    assert "secret" not in str(problems) + repr(rows)


def test_cameras_and_drivers_are_checked_as_the_agent_would() -> None:
    text = (
        "name,cameras,drivers\n"
        "gate-1,front:test-pattern,\n"
        "gate-2,front:test-patern,\n"
        "gate-3,,front:test-pattern\n"
        'gate-4,"{""front"": {""driver"": ""test-pattern"", ""fsp"": 5}}",\n'
    )
    rows, problems = parse(text.encode(), csv_import.configured())
    assert [row.name for row in rows] == ["gate-1"]
    assert [(problem.row, problem.column) for problem in problems] == [(3, "cameras"), (4, "drivers"), (5, "cameras")]
    assert "did you mean `test-pattern`?" in problems[0].message
    assert "move front from `devices:` to `cameras:`" in problems[1].message
    assert "cameras.front.fsp" in problems[2].message


def written(rows: list[list[str]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "ignore")


cells = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["gate-1", "a:b", '{"a": {}}', '{"ssid": "x"}', "Home:correct horse", '{"a": {"driver": "\\ud800"}}', '{"a": NaN}']
    ),
)


@settings(max_examples=30)
@given(st.one_of(st.binary(max_size=200), st.lists(st.lists(cells, max_size=8), max_size=6).map(written)))
def test_whatever_the_file_is_it_is_told_and_what_is_taken_can_be_stored(data: bytes) -> None:
    rows, problems = parse(data)
    assert rows or problems
    for row in rows:
        assert topics.is_name(row.name) and all(map(topics.is_name, row.tags)) and row.place.isprintable()
        json.dumps([row.cameras, row.drivers, row.wifi], ensure_ascii=False, allow_nan=False).encode()
    for problem in problems:
        assert problem.message and str(problem).isprintable()


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
places = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=40).map(str.strip)
boards = st.builds(
    lambda name, place, tags, cameras, ssid: {
        "name": name,
        "place": place,
        "tags": tuple(dict.fromkeys(tags)),
        "cameras": {camera: {"driver": "test-pattern", "title": place} for camera in cameras},
        "wifi": {"ssid": ssid, "psk": ""},
    },
    names.filter(lambda name: not reserved(name)),
    places,
    st.lists(names, max_size=3),
    st.lists(names, max_size=3),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8),
)


@settings(max_examples=30)
@given(st.lists(boards, min_size=1, max_size=5, unique_by=lambda board: board["name"]), st.sampled_from(",;\t"))
def test_what_a_spreadsheet_writes_is_read_back(planned: list[dict[str, Any]], delimiter: str) -> None:
    lines = [
        [
            board["name"],
            "",
            json.dumps(board["cameras"], ensure_ascii=False) if board["cameras"] else "",
            "",
            json.dumps(board["wifi"]),
            board["place"],
            " ".join(board["tags"]),
        ]
        for board in planned
    ]
    rows, problems = parse(written(lines, delimiter))
    assert problems == []
    assert [{key: getattr(row, key) for key in planned[0]} for row in rows] == planned
