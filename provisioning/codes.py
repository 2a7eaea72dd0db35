"""What the QR codes say that an installer shows: a board's claim, or Wi-Fi that the site has signed."""

from __future__ import annotations

__all__ = ["Code", "claim_code", "label_of", "picture", "wifi_code"]

import dataclasses
import io
import time
from dataclasses import dataclass, field
from typing import Literal

import segno

from edgeagent.errors import EdgeAgentError
from edgeagent.wire.wifi import ANY_BOARD, Wifi, sign_wifi
from edgeagent_provisioning import claims
from edgeagent_provisioning.labels import Label
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site


@dataclass(frozen=True, slots=True)
class Code:
    """A QR's text.

    Attributes:
        text: A secret: whoever reads it can be that board, or join that network.
        token: Id of the claim; "" where it is none.
        until: When the claim ends, Unix seconds; 0 where it is none.
        ssid: The network whose key is in it; "" for none.
    """

    text: str = field(repr=False)
    token: str = ""
    until: int = 0
    ssid: str = ""


def claim_code(site: Site, name: str, now: float, *, wifi: bool = True) -> Code:
    """The claim that works for a planned board, or a bulk claim by the prefix of its boards; the caller writes the audit log.

    Args:
        wifi: Whether the Wi-Fi that the board is planned with is in it.

    Raises:
        EdgeAgentError: There is none that works, with what to type.
    """
    board = site.registry.board(name)
    token = site.registry.claim_of(name, now)
    if token is None and board is None:
        bulk = [found for found in site.registry.tokens("kind = 'bulk' AND prefix = ?", name) if found.valid(now)]
        token = bulk[-1] if bulk else None
    if token is None:
        if board is None:
            raise EdgeAgentError(f"There is no board and no bulk claim {name}: `edgeagent provision add {name}` plans one.")
        raise EdgeAgentError(claims.no_claim(board))
    claim = claims.claim_for(site, token)
    if not wifi:
        claim = dataclasses.replace(claim, ssid="", wifi_key="")
    return Code(claim.text(), token.id, token.expires_at, claim.ssid)


def wifi_code(site: Site, wifi: Wifi, now: float, board: str = "") -> Code:
    """Wi-Fi signed by the site, for one board or for all; the caller writes the audit log.

    Raises:
        EdgeAgentError: There is no such board.
    """
    if board and site.registry.board(board) is None:
        raise EdgeAgentError(f"There is no board {board}: `edgeagent provision list` shows them.")
    return Code(sign_wifi(wifi, site.keys["sig"], board=board or ANY_BOARD, at=int(now)), ssid=wifi.ssid)


def label_of(site: Site, board: Board, now: float, *, claim: bool = True, wifi: bool = False) -> tuple[Label, Code | None]:
    """A board's label: with its claim while it is planned, else with its name."""
    code = None
    if claim and board.state == "planned" and site.registry.claim_of(board.name, now) is not None:
        code = claim_code(site, board.name, now, wifi=wifi)
    day = time.strftime("%-d %b %Y", time.localtime(code.until)) if code else ""
    note = f"Claim: works until {day}" if code else f"edgeagent, site {site.name}"
    return Label(board.name, code.text if code else board.name, board.place, board.serial or "", note), code


def picture(text: str, kind: Literal["png", "svg", "terminal"]) -> bytes:
    """The QR itself: medium error correction, quiet zone, dark on light."""
    code = segno.make(text, error="m", micro=False)
    if kind == "terminal":
        lines = io.StringIO()
        code.terminal(lines, compact=True, border=4)
        return lines.getvalue().encode()
    out = io.BytesIO()
    code.save(out, kind=kind, scale=12, border=4, dark="#000", light="#fff")
    return out.getvalue()
