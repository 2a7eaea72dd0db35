"""Sheets of labels: name, QR and place of each board, laid out in millimetres, then written as PDF or as SVG."""

from __future__ import annotations

__all__ = ["SHEETS", "Box", "Label", "Page", "Sheet", "Words", "lay_out", "pdf", "svg"]

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import floor

import segno

from edgeagent.errors import EdgeAgentError

PT = 25.4 / 72
"""Millimetres of a point."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet of paper and where its labels are, in millimetres.

    Attributes:
        title: Size, number and the products that it fits.
        paper: Width and height.
        grid: Labels across and down.
        label: Width and height of one.
        margin: Left and upper edge of the first.
        pitch: From one to the next, across and down.
        cut: Whether thin lines show where to cut: plain paper.
    """

    title: str
    paper: tuple[float, float]
    grid: tuple[int, int]
    label: tuple[float, float]
    margin: tuple[float, float]
    pitch: tuple[float, float]
    cut: bool = False

    @property
    def places(self) -> int:
        """Labels on one sheet."""
        return self.grid[0] * self.grid[1]


_A4, _LETTER = (210.0, 297.0), (215.9, 279.4)
SHEETS = {
    "a4": Sheet("A4, plain paper to cut, 3 x 7", _A4, (3, 7), (62.0, 38.0), (12.0, 15.5), (62.0, 38.0), cut=True),
    "a4-8": Sheet("A4, 2 x 4 of 99.1 x 67.7 mm (Avery L7165)", _A4, (2, 4), (99.1, 67.7), (4.65, 13.1), (101.6, 67.7)),
    "a4-14": Sheet("A4, 2 x 7 of 99.1 x 38.1 mm (Avery L7163)", _A4, (2, 7), (99.1, 38.1), (4.65, 15.15), (101.6, 38.1)),
    "a4-21": Sheet("A4, 3 x 7 of 63.5 x 38.1 mm (Avery L7160)", _A4, (3, 7), (63.5, 38.1), (7.25, 15.15), (66.0, 38.1)),
    "a4-24": Sheet("A4, 3 x 8 of 70 x 37 mm (Avery 3490)", _A4, (3, 8), (70.0, 37.0), (0.0, 0.5), (70.0, 37.0)),
    "letter": Sheet("Letter, plain paper to cut, 3 x 6", _LETTER, (3, 6), (64.0, 40.0), (11.95, 19.7), (64.0, 40.0), cut=True),
    "letter-6": Sheet("Letter, 2 x 3 of 4 x 3 1/3 in (Avery 5164)", _LETTER, (2, 3), (101.6, 84.67), (3.97, 12.7), (106.36, 84.67)),
    "letter-10": Sheet("Letter, 2 x 5 of 4 x 2 in (Avery 5163)", _LETTER, (2, 5), (101.6, 50.8), (3.97, 12.7), (106.36, 50.8)),
    "letter-30": Sheet("Letter, 3 x 10 of 2 5/8 x 1 in (Avery 5160)", _LETTER, (3, 10), (66.68, 25.4), (4.76, 12.7), (69.85, 25.4)),
}
"""The sheets by what one types."""


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on one label.

    Attributes:
        name: Of the board.
        code: What the QR says; a claim is a secret until it is used.
        place: Where it is.
        serial: Of the hardware.
        note: A line at the foot.
    """

    name: str
    code: str = field(repr=False)
    place: str = ""
    serial: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle, in millimetres from the upper left; `grey` from 0, black, to 1."""

    x: float
    y: float
    width: float
    height: float
    grey: float = 0.0


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text that begins at `x` and stands on `y`; `size` in points."""

    x: float
    y: float
    size: float
    text: str
    bold: bool = False
    grey: float = 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """One sheet to print."""

    sheet: Sheet
    marks: tuple[Box | Words, ...]


def lay_out(labels: Sequence[Label], sheet: Sheet, first: int = 1) -> list[Page]:
    """Labels on sheets, row by row.

    Args:
        labels: In their order.
        sheet: What they are printed on.
        first: The place of the first label, 1 to `sheet.places`: those before have been used already.

    Raises:
        EdgeAgentError: There is no such place.
    """
    if not 1 <= first <= sheet.places:
        raise EdgeAgentError(f"This sheet has the places 1 to {sheet.places}: give one of them with --first.")
    pages: list[list[Box | Words]] = []
    for number, label in enumerate(labels, first - 1):
        if number % sheet.places == 0 or not pages:
            pages.append(_cuts(sheet) if sheet.cut else [])
        row, column = divmod(number % sheet.places, sheet.grid[0])
        x, y = sheet.margin[0] + column * sheet.pitch[0], sheet.margin[1] + row * sheet.pitch[1]
        pages[-1] += _drawn(label, x, y, *sheet.label)
    return [Page(sheet, tuple(marks)) for marks in pages]


def _drawn(label: Label, x: float, y: float, width: float, height: float) -> list[Box | Words]:
    pad = 2.0 if height < 30 else 3.0
    side = min(height - 2 * pad, 0.56 * width)
    marks: list[Box | Words] = _code(label.code, x + pad, y + (height - side) / 2, side)
    left = x + pad + side + pad
    room = x + width - pad - left
    large = 8.0 if height < 30 else 11.0 if height < 45 else 15.0 if height < 60 else 18.0
    small, foot = max(6.0, large * 0.6), max(5.5, large * 0.5)
    top = y + (height - side) / 2 + 0.06 * side  # beside the first dark row of the code
    bottom = y + (height + side) / 2 - 0.06 * side
    notes = _wrapped(label.note, room, foot)[:3]
    end = bottom - len(notes) * foot * PT * 1.2
    size, name = _fitted(label.name, room, large, 0.75 * large)
    at = top + 0.75 * size * PT
    for text in name:
        marks.append(Words(left, at, size, text, bold=True))
        at += size * PT * 1.15
    at += 0.2 * (small - size) * PT + 0.6
    for text in _cut(_wrapped(label.place, room, small), floor((end - at) / (small * PT * 1.2)) + 1):
        marks.append(Words(left, at, small, text))
        at += small * PT * 1.2
    for text in _cut(_wrapped(label.serial, room, foot), floor((end - at) / (foot * PT * 1.2)) + 1):
        marks.append(Words(left, at, foot, text, grey=0.4))
        at += foot * PT * 1.2
    for number, text in enumerate(reversed(notes)):
        marks.append(Words(left, bottom - number * foot * PT * 1.2, foot, text, grey=0.4))
    return marks


def _cut(lines: list[str], most: int) -> list[str]:
    """As many lines as there is room for, and a sign where some are missing."""
    most = max(0, most)
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"{lines[most - 1].rstrip(' ,')}…"] if most else []


def _code(text: str, x: float, y: float, side: float) -> list[Box | Words]:
    """A QR (ISO/IEC 18004) with its quiet zone inside the square, the dark modules of a row drawn together."""
    made = segno.make(text, error="m", micro=False)
    rows = [bytes(row) for row in made.matrix]
    border = 2 if made.version == 1 else 4
    module = side / (len(rows) + 2 * border)
    marks: list[Box | Words] = []
    for down, row in enumerate(rows):
        start = -1
        for across, dark in enumerate((*row, 0)):
            if dark and start < 0:
                start = across
            elif not dark and start >= 0:
                marks.append(Box(x + (border + start) * module, y + (border + down) * module, (across - start) * module, module))
                start = -1
    return marks


def _cuts(sheet: Sheet) -> list[Box | Words]:
    """Lines between the labels, to cut along."""
    line, (across, down) = 0.15, sheet.grid
    wide, high = across * sheet.pitch[0], down * sheet.pitch[1]
    left, top = sheet.margin
    rows = [Box(left, top + number * sheet.pitch[1] - line / 2, wide, line, 0.7) for number in range(down + 1)]
    columns = [Box(left + number * sheet.pitch[0] - line / 2, top, line, high, 0.7) for number in range(across + 1)]
    return [*rows, *columns]


def _width(text: str, size: float) -> float:
    """About how wide Helvetica Bold sets this, in millimetres; rather more than less."""
    ems = sum(
        0.30 if sign in " iljtfI.,:;'!|()[]-/" else 0.90 if sign in "mwMW@%" else 0.74 if sign.isupper() else 0.60 for sign in text
    )
    return ems * size * PT


def _fitted(text: str, room: float, size: float, least: float) -> tuple[float, list[str]]:
    """A name as large as it goes; in two lines or more, where it is too long at the least size."""
    while size > least and _width(text, size) > room:
        size -= 0.5
    if _width(text, size) <= room:
        return size, [text]
    return size, _wrapped(text.replace("-", "-\0"), room, size)[:4]


def _wrapped(text: str, room: float, size: float) -> list[str]:
    """Lines that fit; broken at spaces, after hyphens marked with a zero, and anywhere in a word that is too long."""
    lines: list[str] = []
    line = ""
    for word in text.replace("\0", "\0 ").split():
        joined = line.removesuffix("\0") + word if line.endswith("\0") else f"{line} {word}".strip()
        if _width(joined, size) <= room:
            line = joined
            continue
        if line:
            lines.append(line)
        line = word
        while _width(line, size) > room and len(line) > 1:
            cut = max(1, next((end for end in range(len(line), 0, -1) if _width(line[:end], size) <= room), 1))
            lines.append(line[:cut])
            line = line[cut:]
    return [part.replace("\0", "") for part in (*lines, line) if part]


def svg(page: Page) -> str:
    """One sheet as SVG 1.1, to be printed at its own size."""
    width, height = page.sheet.paper
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}mm" height="{height:g}mm" viewBox="0 0 {width:g} {height:g}">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    boxes: dict[float, list[str]] = {}
    for mark in page.marks:
        if isinstance(mark, Box):
            path = f"M{mark.x:.3f} {mark.y:.3f}h{mark.width:.3f}v{mark.height:.3f}h{-mark.width:.3f}z"
            boxes.setdefault(mark.grey, []).append(path)
    for grey, paths in sorted(boxes.items(), reverse=True):
        crisp = "" if grey else ' shape-rendering="crispEdges"'
        parts.append(f'<path fill="{_colour(grey)}"{crisp} d="{"".join(paths)}"/>')
    for mark in page.marks:
        if isinstance(mark, Words):
            weight = ' font-weight="bold"' if mark.bold else ""
            style = (
                f'font-family="Helvetica, Arial, sans-serif" font-size="{mark.size * PT:.3f}"{weight} fill="{_colour(mark.grey)}"'
            )
            parts.append(f'<text x="{mark.x:.3f}" y="{mark.y:.3f}" {style}>{escape(mark.text)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _colour(grey: float) -> str:
    return f"#{round(grey * 255):02x}" + f"{round(grey * 255):02x}" * 2


def pdf(pages: Sequence[Page], title: str = "Labels") -> bytes:
    """The sheets as PDF 1.4, in the fonts that every reader has.

    Raises:
        EdgeAgentError: A text holds letters that those fonts lack; SVG has them.
    """
    objects = [b"", b"", *(_font(name) for name in ("Helvetica", "Helvetica-Bold"))]
    objects.append(f"<< /Title ({_quoted(title)}) /Producer (edgeagent) >>".encode("latin-1"))
    kids = []
    for page in pages:
        width, height = (length / PT for length in page.sheet.paper)
        content = zlib.compress("\n".join(_operators(page)).encode("latin-1"))
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content))
        resources = "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >>"
        box = f"/MediaBox [0 0 {width:.2f} {height:.2f}]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} {resources} /Contents {len(objects)} 0 R >>".encode())
        kids.append(f"{len(objects)} 0 R")
    # `PrintScaling`: a reader that shrinks the page to its printer's margins moves every label.
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>"
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>".encode()
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, data in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, data)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _font(name: str) -> bytes:
    return f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()


def _operators(page: Page) -> list[str]:
    """What draws the page; PDF counts from below."""
    height = page.sheet.paper[1]
    grey = -1.0
    out = []
    for mark in page.marks:
        if mark.grey != grey:
            grey = mark.grey
            out.append(f"{grey:g} g")
        x = mark.x / PT
        if isinstance(mark, Box):
            y = (height - mark.y - mark.height) / PT
            out.append(f"{x:.3f} {y:.3f} {mark.width / PT:.3f} {mark.height / PT:.3f} re f")
        else:
            y, font = (height - mark.y) / PT, "F2" if mark.bold else "F1"
            out.append(f"BT /{font} {mark.size:g} Tf {x:.3f} {y:.3f} Td ({_quoted(mark.text)}) Tj ET")
    return out


def _quoted(text: str) -> str:
    try:
        data = text.encode("cp1252").decode("latin-1")
    except UnicodeEncodeError as error:
        letter = text[error.start]
        raise EdgeAgentError(
            f"{text!r} holds {letter!r}, which the fonts of a PDF lack: write SVG instead (--format svg)."
        ) from None
    return data.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
