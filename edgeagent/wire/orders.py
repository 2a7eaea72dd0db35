"""What a site orders of its boards, and what they tell it: the bodies inside the envelopes of `wire.seal`.

    site → board   `ea/1/d/<board>/in/site`   settings, logs, restart, snapshot, doctor, upgrade, ping, identify, renew, transfer,
                                              reset
    board → site   `ea/1/v/site/in/<board>`   answer (one or more to each order), here (at each connection)

An order is known by its envelope's number, which `answer` repeats in `re`. Orders may be sent again as they are: a board obeys each
once, and repeats its answer. What does not fit into one envelope comes in `parts`.
"""

from __future__ import annotations

__all__ = [
    "PART",
    "SITE",
    "AnyOrder",
    "AnyReport",
    "Doctor",
    "Here",
    "Identify",
    "Logs",
    "Order",
    "OrderAnswer",
    "OrderPing",
    "Renew",
    "Reset",
    "Restart",
    "SetSettings",
    "Snapshot",
    "Transfer",
    "Upgrade",
    "decode_order",
    "decode_report",
    "one_line",
    "plain",
    "settings_version",
]

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgeagent.errors import PeerError
from edgeagent.wire.messages import Name

SITE: Final = "site"
"""The site's name as a viewer on the broker, and in envelopes."""
PART: Final = 24_000
"""Characters of `data` in one answer: even if each needs an escape or several bytes in UTF-8, most texts then fit an envelope."""


def plain(text: str) -> str:
    """As a terminal may show it, whoever has written it: no control characters but line breaks and tabs."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)


def one_line(text: str) -> str:
    """The same for a list or a log, whose lines nobody else may write."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


Version = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
"""Of settings, as `settings_version` makes it; "" where a board runs by its own file."""
Release = Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+!_-]{0,63}$")]


def _encodable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can escape and UTF-8 cannot hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class Order(BaseModel):
    """What every order has. `t` says what is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    t: str


class SetSettings(Order):
    """Run by these settings, the whole of a configuration file; tried, and taken back by the board if they do not work.

    Answered twice: first what was found wrong with them (or 202, they are being tried), then after the trial, from the board's next
    run, what became of it; `settings` is the version in force.
    """

    t: Literal["settings"] = "settings"
    settings: dict[str, Any]
    version: Version


class Logs(Order):
    """The last `lines` of the agent's log, oldest first, as `data`."""

    t: Literal["logs"] = "logs"
    lines: Annotated[int, Field(ge=1, le=2000)] = 200


class Restart(Order):
    """End orderly and begin anew; answered before."""

    t: Literal["restart"] = "restart"


class Snapshot(Order):
    """A JPEG of a camera (the first one where ""), as `data` in base64."""

    t: Literal["snapshot"] = "snapshot"
    camera: Name | Literal[""] = ""


class Doctor(Order):
    """What `edgeagent doctor --json` prints, as `data`."""

    t: Literal["doctor"] = "doctor"


class Upgrade(Order):
    """Install a release beside the one that runs, begin anew with it, and go back if it is not well.

    The archive at `url` is taken only with this very `sha256`, so it may lie anywhere. Answered as `settings` is.
    """

    t: Literal["upgrade"] = "upgrade"
    release: Release
    url: Annotated[str, Field(pattern=r"^https?://[^\s\"'<>]{1,400}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=1, le=1_000_000_000)]


class OrderPing(Order):
    """Only answer."""

    t: Literal["ping"] = "ping"


class Identify(Order):
    """Show a person which board this is, as by its LED."""

    t: Literal["identify"] = "identify"


class Transfer(Order):
    """Forget this site, its keys, settings and Wi-Fi, to be taken over by another; answered before."""

    t: Literal["transfer"] = "transfer"


class Renew(Order):
    """Make a new key for TLS, and get a certificate for it, now; answered before."""

    t: Literal["renew"] = "renew"


class Reset(Order):
    """As `transfer`, and forget all data as well."""

    t: Literal["reset"] = "reset"


class Report(BaseModel):
    """What every message of a board to its site has: how it is now."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    t: str
    settings: Version = ""
    release: Annotated[str, Field(max_length=200), AfterValidator(one_line)] = ""


class OrderAnswer(Report):
    """The answer to order number `re`. `settings` and `release` are in force when it is sent.

    `code`: 200 done, 202 begun (another answer follows), else as in `edgeagent.errors.PeerError`: 409 not now or stale, 501 this
    board cannot. `text` is for a person. `after`, in a refusal for being stale: the highest number that the board knows.
    """

    t: Literal["answer"] = "answer"
    re: Annotated[int, Field(ge=1, lt=2**53)]
    code: Annotated[int, Field(ge=200, le=599)] = 200
    text: Annotated[str, Field(max_length=4000), AfterValidator(plain)] = ""
    data: Annotated[str, AfterValidator(_encodable)] = ""
    part: Annotated[int, Field(ge=0, lt=1000)] = 0
    parts: Annotated[int, Field(ge=1, le=1000)] = 1
    after: Annotated[int, Field(ge=0, lt=2**53)] = 0


class Here(Report):
    """A board is connected: the first proof that it holds its key, and what runs on it.

    `trial` tells what is being tried, `refused` the version of the settings that it tried last and took back. `certificate` is the
    serial (hexadecimal) of the one that it has in place: the broker, which has seen one, tells none, and could tell any.
    """

    t: Literal["here"] = "here"
    device: Name
    certificate: Annotated[str, Field(pattern=r"^([0-9a-f]{1,40})?$")] = ""
    model: Annotated[str, Field(max_length=200), AfterValidator(one_line)] = ""
    trial: Literal["", "settings", "upgrade"] = ""
    refused: Version = ""
    text: Annotated[str, Field(max_length=4000), AfterValidator(plain)] = ""


AnyOrder = Annotated[
    SetSettings | Logs | Restart | Snapshot | Doctor | Upgrade | OrderPing | Identify | Renew | Transfer | Reset,
    Field(discriminator="t"),
]
AnyReport = Annotated[OrderAnswer | Here, Field(discriminator="t")]
_ORDER: TypeAdapter[AnyOrder] = TypeAdapter(AnyOrder)
_REPORT: TypeAdapter[AnyReport] = TypeAdapter(AnyReport)


def decode_order(body: Mapping[str, Any]) -> AnyOrder:
    """Check the body of an envelope that a site has sealed.

    Raises:
        PeerError: 426 for an order of another version, 400 for what cannot be read, with the field.
    """
    order: AnyOrder = _decoded(body, _ORDER, "order")
    return order


def decode_report(body: Mapping[str, Any]) -> AnyReport:
    """Check the body of an envelope that a board has sealed; raises as `decode_order`."""
    report: AnyReport = _decoded(body, _REPORT, "report")
    return report


def _decoded(body: Mapping[str, Any], adapter: TypeAdapter[Any], what: str) -> Any:
    if body.get("v", 1) != 1:
        raise PeerError(426, f"This {what} is of another version of edgeagent; upgrade the older of the two.")
    try:
        return adapter.validate_python(dict(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"][1:])) or "t"
        raise PeerError(400, f"This {what} cannot be read, at {place[:80]}: {first['msg'][:200]}") from None


def settings_version(settings: Mapping[str, Any]) -> str:
    """The version of settings: 16 hex digits of SHA-256 over their canonical JSON, so that equal settings are one version."""
    text = json.dumps(settings, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
