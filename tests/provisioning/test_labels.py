from __future__ import annotations

import itertools
import re
import subprocess
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.joining.reader import texts_in
from edgeagent.media.luma import Luma
from edgeagent.wire.claim import Claim
from edgeagent_provisioning import codes, labels
from edgeagent_provisioning.labels import SHEETS, Box, Label, Page, Words, lay_out, pdf, svg
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from tests.provisioning.common import DAY, NOW, planned
from tests.support import require

LONG = Label("a-" * 31 + "bc", "x", "Hall 3, gate 12, above the ramp beside the office (" + "W" * 60 + ")", "s" * 64, "a note")


@pytest.mark.parametrize("name", SHEETS)
def test_everything_stays_on_its_label(name: str) -> None:
    sheet = SHEETS[name]
    (page,) = lay_out([LONG] * sheet.places, sheet)
    right, bottom = sheet.margin[0] + sheet.label[0] + (sheet.grid[0] - 1) * sheet.pitch[0], 0.0
    for mark in page.marks:
        if isinstance(mark, Words):
            end = mark.x + labels._width(mark.text, mark.size)
            row, column = divmod(round((mark.y - sheet.margin[1]) // sheet.pitch[1]), 1)[0], 0
            column = int((mark.x - sheet.margin[0]) // sheet.pitch[0])
            assert end <= sheet.margin[0] + column * sheet.pitch[0] + sheet.label[0], (mark, name)
            top = sheet.margin[1] + row * sheet.pitch[1]
            assert top + mark.size * labels.PT * 0.7 <= mark.y <= top + sheet.label[1] - 1
        elif not mark.grey:
            bottom = max(bottom, mark.y + mark.height)
            assert mark.x + mark.width <= right
    assert bottom <= sheet.margin[1] + (sheet.grid[1] - 1) * sheet.pitch[1] + sheet.label[1]
    assert right <= sheet.paper[0] and bottom <= sheet.paper[1]


@pytest.mark.parametrize("name", SHEETS)
def test_lines_of_a_label_do_not_overlap(name: str) -> None:
    (page,) = lay_out([LONG], SHEETS[name])
    words = sorted((mark for mark in page.marks if isinstance(mark, Words)), key=lambda mark: mark.y)
    assert words[0].text.startswith("a-a-") and words[0].bold and words[-1].text == "a note"
    for above, below in itertools.pairwise(words):
        assert below.y - above.y >= below.size * labels.PT, (above, below)


def test_labels_fill_the_sheets_in_order() -> None:
    made = [Label(f"b{number}", "x") for number in range(25)]
    pages = lay_out(made, SHEETS["a4-21"], first=20)
    names = [[mark.text for mark in page.marks if isinstance(mark, Words)] for page in pages]
    assert names == [["b0", "b1"], [f"b{number}" for number in range(2, 23)], ["b23", "b24"]]
    first = next(mark for mark in pages[0].marks if isinstance(mark, Words))
    assert first.y > 15.15 + 6 * 38.1 and 7.25 + 66 < first.x < 7.25 + 132
    with pytest.raises(EdgeAgentError, match="places 1 to 21"):
        lay_out(made, SHEETS["a4-21"], first=22)


def printed(page: Page, folder: Path, *, by: str) -> Luma:
    """The sheet at 200 dpi, as a grey picture: from PDF by poppler, or from SVG by librsvg."""
    if by == "pdf":
        (folder / "sheet.pdf").write_bytes(pdf([page], "T (\\)"))
        subprocess.run(
            [require("pdftoppm"), "-r", "200", "-gray", "-singlefile", folder / "sheet.pdf", folder / "sheet"],
            check=True,
            capture_output=True,
        )
        data = (folder / "sheet.pgm").read_bytes()
        head = re.match(rb"P5\s+(\d+)\s+(\d+)\s+255\s", data)
        assert head
        return Luma(int(head[1]), int(head[2]), data[head.end() :])
    import av

    (folder / "sheet.svg").write_text(svg(page), "utf-8")
    converted = subprocess.run(
        [require("rsvg-convert"), "-d", "200", "-p", "200", folder / "sheet.svg", "-o", folder / "sheet.png"],
        check=True,
        capture_output=True,
    )
    assert not converted.stderr
    with av.open(str(folder / "sheet.png")) as container:
        frame = next(container.decode(video=0)).reformat(format="gray")
        rows, step = memoryview(frame.planes[0]), frame.planes[0].line_size
        return Luma(frame.width, frame.height, b"".join(rows[y * step : y * step + frame.width] for y in range(frame.height)))


@pytest.mark.parametrize("by", ["pdf", "svg"])
def test_what_is_printed_can_be_read(by: str, tmp_path: Path) -> None:
    require("module:zxingcpp")
    claims = [Claim("https://site.example:8443", "c" * 43, f"{n:016x}", "s" * 22).text() for n in range(8)]
    made = [Label(f"gate-{n}", text, "Größe – (oben)", "10a", "Claim: works until 30 Nov 2026") for n, text in enumerate(claims)]
    (page,) = lay_out(made, SHEETS["a4-8"])
    picture = printed(page, tmp_path, by=by)
    assert abs(picture.width / picture.height - 210 / 297) < 0.01
    assert sorted(texts_in(picture)) == sorted(claims)


def test_a_pdf_is_sound_and_says_what_it_cannot_hold() -> None:
    data = pdf(lay_out([Label("gate", "x", "Größe (1\\2)")] * 30, SHEETS["a4-21"]), "Labels")
    table = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[table : table + 4] == b"xref"
    for place in re.findall(rb"^(\d{10}) 00000 n", data[table:], re.M):
        assert re.match(rb"\d+ 0 obj\n", data[int(place) :])
    streams = re.findall(rb"stream\n(.*?)\nendstream", data, re.S)
    assert len(streams) == 2 and "(Größe \\(1\\\\2\\)) Tj".encode("latin-1") in zlib.decompress(streams[0])
    with pytest.raises(EdgeAgentError, match=r"holds '南'.*--format svg"):
        pdf(lay_out([Label("gate", "x", "南門")], SHEETS["a4"]))
    assert "南門" in svg(lay_out([Label("gate", "x", "南門")], SHEETS["a4"])[0])


def test_svg_is_sound_and_quotes_what_stands_in_it() -> None:
    (page,) = lay_out([Label("gate", "x", "<b> & co")], SHEETS["letter-30"])
    tree = ElementTree.fromstring(svg(page))
    assert tree.get("width") == "215.9mm"
    assert [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")] == ["gate", "<b> & co"]
    assert not any(isinstance(mark, Box) and mark.grey for mark in page.marks), "no cut lines on a sheet of labels"


def test_a_label_holds_a_claim_only_while_one_works(site: Site) -> None:
    token = planned(site, "gate-1")
    board = site.registry.board("gate-1")
    assert board
    label, code = codes.label_of(site, board, NOW)
    assert code and code.token == token.id and Claim.parse(label.code).token_id == token.id and "until" in label.note
    assert token.secret not in repr(label) + repr(code)
    for late, options in ((NOW + 365 * DAY, {}), (NOW, {"claim": False})):
        label, code = codes.label_of(site, board, late, **options)
        assert (label.code, code, label.note) == ("gate-1", None, "edgeagent, site home")


def test_a_claim_on_a_label_has_no_wifi_unless_asked(site: Site) -> None:
    planned(site, "gate-1")
    with site.registry.transaction() as connection:
        found = site.registry.board("gate-1")
        assert found
        board = Board("gate-1", NOW, wifi={"ssid": "home", "psk": "a-long-key"}, place=found.place)
        site.registry.save_board(connection, board)
    assert "a-long-key" not in codes.label_of(site, board, NOW)[0].code
    assert "a-long-key" in codes.label_of(site, board, NOW, wifi=True)[0].code
    assert codes.claim_code(site, "gate-1", NOW).ssid == "home"
