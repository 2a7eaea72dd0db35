"""A list of boards, as spreadsheets write it: the whole of it is checked before anything is done.

Columns, by the names in the first row, in any order; only `name` must be there:

    name     a-z, 0-9 and inner hyphens
    serial   of the hardware
    cameras  `front:picamera2 yard:v4l2` (name:driver), or JSON as `cameras:` of the agent's configuration
    drivers  the same for `devices:`
    wifi     `SSID:key`, `SSID:` for an open network, or JSON {"ssid": …, "psk": …}
    place    any text
    tags     names, with spaces between

Separated by commas, semicolons or tabs; UTF-8. Rows are numbered as spreadsheets do: the first row is 1.
"""

from __future__ import annotations

__all__ = ["COLUMNS", "Problem", "Row", "parse", "row_of"]

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeagent.config.problems import nearest, printable
from edgeagent.errors import ConfigError, EdgeAgentError
from edgeagent.wire import topics
from edgeagent_provisioning.broker.names import reserved
from edgeagent_provisioning.claims import serial_of

COLUMNS = ("name", "serial", "cameras", "drivers", "wifi", "place", "tags")
MAX_BYTES = 8_000_000
MAX_ROWS = 10_000
_MAX_CELL = 8_000
_PAIR = re.compile(r"(?:([a-z0-9-]+):)?([a-z0-9][a-z0-9_-]*)", re.ASCII)

Check = Callable[[Mapping[str, Any], Mapping[str, Any]], list[tuple[str, str]]]
"""Given cameras and devices, what is wrong: pairs of column (`cameras` or `drivers`) and sentence."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a cell; `row` 0 for the file itself, `column` "" for the row itself."""

    row: int
    column: str
    message: str

    def __str__(self) -> str:
        where = f"row {self.row}" + (f", {self.column}" if self.column else "") if self.row else "the file"
        return f"{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Row:
    """A board as it is planned; `number` is its row in the file, 0 for one from the command line."""

    number: int
    name: str
    serial: str | None = None
    place: str = ""
    tags: tuple[str, ...] = ()
    cameras: Mapping[str, Any] = field(default_factory=dict)
    drivers: Mapping[str, Any] = field(default_factory=dict)
    wifi: Mapping[str, str] | None = field(default=None, repr=False)


def parse(data: bytes, check: Check | None = None) -> tuple[list[Row], list[Problem]]:
    """The rows of a file and everything that is wrong with it; rows with a problem are left out. Raises nothing.

    Args:
        check: Looks at cameras and drivers as the agent would (`configured`).
    """
    if len(data) > MAX_BYTES:
        return [], [Problem(0, "", f"it has more than {MAX_BYTES // 1_000_000} MB: this is no list of boards.")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], [Problem(0, "", "it is not UTF-8: save it again as “CSV UTF-8”.")]
    if "\0" in text:
        return [], [Problem(0, "", "it is no text: save the spreadsheet as CSV.")]
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    # `newline=""` as the module asks for; old Mac files end lines with CR alone, which it takes, too.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    problems: list[Problem] = []
    columns: list[str] = []
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            if number == 1:
                columns, problems = _columns(cells)
                if problems:
                    return [], problems
            elif number > MAX_ROWS + 1:
                return rows, [*problems, Problem(0, "", f"it has more than {MAX_ROWS} rows: divide it.")]
            elif any(cell.strip() for cell in cells):
                _take(number, columns, cells, check, rows, problems)
    except csv.Error as error:
        problems.append(Problem(number + 1, "", f'the quotes are not right ({error}): every " that begins a cell must end it.'))
    if not columns and not problems:
        problems.append(Problem(0, "", "it is empty: the first row names the columns, like `name,serial,place`."))
    elif columns and not rows and not problems:
        problems.append(Problem(0, "", "it has no boards: write one in each row below the first."))
    problems += _twice(rows)
    return rows, problems


def row_of(number: int, cells: Mapping[str, str], check: Check | None = None) -> tuple[Row, list[Problem]]:
    """A board from the text of its cells, and what is wrong with it (then the row is of no use)."""
    problems: list[Problem] = []

    def wrong(column: str, message: str) -> None:
        problems.append(Problem(number, column, message))

    cells = {column: cell.strip() for column, cell in cells.items()}
    for column, cell in cells.items():
        if len(cell) > _MAX_CELL:
            wrong(column, f"is longer than {_MAX_CELL} characters")
            cells = {**cells, column: ""}
    name = cells.get("name", "")
    if not topics.is_name(name):
        what = f"{printable(name)} cannot name a board" if name else "is missing"
        hint = f": write {lower}" if topics.is_name(lower := re.sub(r"[\s_.]+", "-", name.lower())) else ", like gate-1"
        wrong("name", f"{what}: use a-z, 0-9 and inner hyphens, at most 64{hint}")
    elif reserved(name):  # its certificate would have that user's rights
        wrong("name", f"{name} is one of the broker's own users: take another, like board-{name}")
    serial = None
    if cells.get("serial"):
        try:
            serial = serial_of(cells["serial"])
        except EdgeAgentError as error:
            wrong("serial", str(error))
    place = cells.get("place", "")
    if len(place) > 200 or not place.isprintable():
        wrong("place", "write one line of at most 200 characters")
    tags = tuple(dict.fromkeys(re.split(r"[\s;|,]+", cells.get("tags", "")))) if cells.get("tags") else ()
    tags = tuple(tag for tag in tags if tag)
    for tag in tags:
        if not topics.is_name(tag):
            wrong("tags", f"{printable(tag)} is no tag: use a-z, 0-9 and inner hyphens")
    cameras = _devices(cells.get("cameras", ""), "camera", lambda message: wrong("cameras", message))
    drivers = _devices(cells.get("drivers", ""), "", lambda message: wrong("drivers", message))
    wifi = _wifi(cells.get("wifi", ""), lambda message: wrong("wifi", message))
    if check and (cameras or drivers) and not any(problem.column in ("cameras", "drivers") for problem in problems):
        for column, message in check(cameras, drivers):
            wrong(column, message)
    return Row(number, name, serial, place, tags, cameras, drivers, wifi), problems


def configured() -> Check:
    """A check by the agent's own models, with the drivers that are installed here; each combination is looked at once."""
    from edgeagent.config import Drivers, load

    drivers = Drivers.installed()
    seen: dict[str, list[tuple[str, str]]] = {}

    def check(cameras: Mapping[str, Any], devices: Mapping[str, Any]) -> list[tuple[str, str]]:
        parts = {"cameras": cameras, "devices": devices}
        text = json.dumps({section: found for section, found in parts.items() if found})
        if text not in seen:
            try:
                load(text, {}, drivers)
                seen[text] = []
            except ConfigError as error:
                seen[text] = [
                    ("drivers" if problem.path.startswith("devices") else "cameras", str(problem)) for problem in error.problems
                ]
        return seen[text]

    return check


def _columns(cells: list[str]) -> tuple[list[str], list[Problem]]:
    columns = [cell.strip().lower() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    problems = [
        Problem(1, printable(column), f"there is no such column; {nearest(column, COLUMNS)}" if column else "a column has no name")
        for column in columns
        if column not in COLUMNS
    ]
    problems += [Problem(1, column, "is there twice") for column in COLUMNS if columns.count(column) > 1]
    if columns and not problems and "name" not in columns:
        problems.append(Problem(1, "name", "is missing: the first row names the columns, like `name,serial,place`"))
    return columns, problems


def _take(number: int, columns: list[str], cells: list[str], check: Check | None, rows: list[Row], problems: list[Problem]) -> None:
    if any(cell.strip() for cell in cells[len(columns) :]):
        problems.append(
            Problem(number, "", f"has {len(cells)} cells, more than there are columns: put quotes around text with separators")
        )
        return
    row, found = row_of(number, dict(zip(columns, cells, strict=False)), check)
    problems += found
    if not found:
        rows.append(row)


def _twice(rows: list[Row]) -> list[Problem]:
    names: dict[str, int] = {}
    serials: dict[str, int] = {}
    problems = []
    for row in rows:
        if (before := names.setdefault(row.name, row.number)) != row.number:
            problems.append(Problem(row.number, "name", f"{row.name} is in row {before} already"))
        if row.serial and (before := serials.setdefault(row.serial, row.number)) != row.number:
            problems.append(Problem(row.number, "serial", f"{row.serial} is in row {before} already"))
    return problems


def _devices(cell: str, lone: str, wrong: Callable[[str], None]) -> dict[str, Any]:
    """`name:driver …`, a lone driver (named `lone`, or as itself), or JSON."""
    if cell.startswith("{"):
        found = _json(cell, wrong)
        if found is not None and not all(isinstance(value, dict) for value in found.values()):
            wrong('write JSON like {"front": {"driver": "picamera2"}}')
            return {}
        return found or {}
    devices: dict[str, Any] = {}
    for word in [word for word in re.split(r"[\s;|,]+", cell) if word]:
        pair = _PAIR.fullmatch(word)
        if not pair:
            wrong(f"{printable(word)} is not name:driver, like front:picamera2")
            continue
        name = pair[1] or lone or pair[2]
        if name in devices:
            wrong(f"{name} is there twice: write name:driver for each, like front:picamera2")
        devices[name] = {"driver": pair[2]}
    return devices


def _wifi(cell: str, wrong: Callable[[str], None]) -> dict[str, str] | None:
    if not cell:
        return None
    if cell.startswith("{"):
        found = _json(cell, wrong)
        if found is None:
            return None
        if found.keys() != {"ssid", "psk"} or not all(isinstance(value, str) for value in found.values()):
            wrong('write JSON like {"ssid": "Home", "psk": "…"}, with "psk": "" for an open network')
            return None
        ssid, psk = found.get("ssid", ""), found.get("psk", "")
    else:
        ssid, colon, psk = cell.partition(":")
        if not colon:
            wrong("has no key: write SSID:key, or SSID: with nothing after it for an open network")
            return None
    # Nothing of the cell is repeated: it holds the key.
    if not 1 <= len(ssid.encode("utf-8", "replace")) <= 32 or not ssid.isprintable():
        wrong("the network's name must have 1 to 32 bytes: write SSID:key")
    elif psk and not (psk.isascii() and psk.isprintable() and (8 <= len(psk) <= 63 or re.fullmatch("[0-9a-fA-F]{64}", psk))):
        wrong("the key must have 8 to 63 characters (ASCII): write SSID:key")
    return {"ssid": ssid, "psk": psk}


def _json(cell: str, wrong: Callable[[str], None]) -> dict[str, Any] | None:
    try:
        found = json.loads(cell, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair cannot be stored
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        wrong('is no JSON: every { and " must be closed (in a CSV file each " inside a cell is written twice)')
        return None
    return found


def _no_number(name: str) -> None:
    raise ValueError(name)
