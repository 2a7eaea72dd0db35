"""Bytes from outside into messages, and messages into text: the one place where the wire is checked."""

from __future__ import annotations

__all__ = [
    "decode_agent",
    "decode_announced",
    "decode_control_agent",
    "decode_event",
    "decode_home_command",
    "decode_set_point",
    "decode_up",
    "decode_viewer",
    "encode",
    "id_of",
    "sid_of",
]

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, from_json

from edgeagent.errors import PeerError
from edgeagent.wire.control import MAX_CONTROL, ControlFromAgent, EventFromViewer, SetPoint
from edgeagent.wire.home import MAX_HOME_COMMAND, Announced, HomeCommand
from edgeagent.wire.messages import MAX_MESSAGE, VERSION, AgentMessage, Up, ViewerMessage

_M = TypeVar("_M")
_VIEWER: TypeAdapter[ViewerMessage] = TypeAdapter(ViewerMessage)
_AGENT: TypeAdapter[AgentMessage] = TypeAdapter(AgentMessage)
_VIEWER_TYPES = ("offer", "ice", "bye", "switch", "quality", "ping")
_AGENT_TYPES = ("answer", "ice", "bye", "error", "hello", "state", "flows", "pong", "done")
_SET_POINT: TypeAdapter[SetPoint] = TypeAdapter(SetPoint)
_EVENT: TypeAdapter[EventFromViewer] = TypeAdapter(EventFromViewer)
_EVENT_TYPES = ("sign_in", "listen", "lease", "halt", "stop", "reset", "command")
_CONTROL_AGENT: TypeAdapter[ControlFromAgent] = TypeAdapter(ControlFromAgent)
_CONTROL_AGENT_TYPES = ("ack", "devices", "group", "result", "refused", "alarm", "readings")
_HOME_COMMAND: TypeAdapter[HomeCommand] = TypeAdapter(HomeCommand)
_ANNOUNCED: TypeAdapter[Announced] = TypeAdapter(Announced)
_SID = re.compile(r"[a-z0-9]{8,32}", re.ASCII)
_SHOWN_ERRORS = 3
_SHOWN_CHARS = 60


def decode_viewer(raw: bytes | str) -> ViewerMessage:
    """Check one message of a viewer.

    Raises:
        PeerError: 413 above `MAX_MESSAGE` bytes, 426 for another version, 400 for everything else, with a sentence
            that names the field. Nothing else is ever raised, whatever `raw` is.
    """
    return _decode(raw, _VIEWER, _VIEWER_TYPES)


def decode_agent(raw: bytes | str) -> AgentMessage:
    """Check one message of an agent, for clients in Python; raises as `decode_viewer` does."""
    return _decode(raw, _AGENT, _AGENT_TYPES)


def decode_set_point(raw: bytes | str) -> SetPoint:
    """Check one message of the data channel `control`; raises as `decode_viewer` does, 413 above `MAX_CONTROL` bytes."""
    return _decode(raw, _SET_POINT, ("set",), MAX_CONTROL)


def decode_event(raw: bytes | str) -> EventFromViewer:
    """Check one message of a viewer on the data channel `events`; raises as `decode_set_point` does."""
    return _decode(raw, _EVENT, _EVENT_TYPES, MAX_CONTROL)


def decode_control_agent(raw: bytes | str) -> ControlFromAgent:
    """Check one message of an agent on any of these channels, for clients in Python; raises as `decode_set_point` does."""
    return _decode(raw, _CONTROL_AGENT, _CONTROL_AGENT_TYPES, MAX_CONTROL)


def decode_home_command(raw: bytes | str) -> HomeCommand:
    """Check one command of a home automation; raises as `decode_viewer` does, 413 above `MAX_HOME_COMMAND` bytes."""
    return _decode(raw, _HOME_COMMAND, ("home_command",), MAX_HOME_COMMAND)


def decode_announced(raw: bytes | str) -> Announced:
    """Check what this agent once retained about what it announced; raises as `decode_viewer` does."""
    return _decode(raw, _ANNOUNCED, ("announced",))


def decode_up(raw: bytes | str) -> Up:
    """Check a presence message; raises PeerError (400 or 413)."""
    try:
        return Up.model_validate(_parse(raw), strict=True)
    except ValidationError as error:
        raise PeerError(400, _sentence(error.errors(include_url=False, include_input=False), "up")) from None


def encode(message: BaseModel) -> str:
    """Compact JSON of any message; fields that are None are left out. Never raises for a valid model."""
    try:
        return message.model_dump_json(exclude_none=True)
    except PydanticSerializationError:
        # Lone surrogates, as in a file name that was not UTF-8: replaced, so that the rest still arrives.
        text = json.dumps(message.model_dump(exclude_none=True), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace").decode()


def sid_of(raw: bytes | str) -> str | None:
    """The session that a message names, however wrong the rest is: so that its refusal finds the way."""
    try:
        sid = _parse(raw).get("sid")
    except PeerError:
        return None
    return sid if isinstance(sid, str) and _SID.fullmatch(sid) else None


def id_of(raw: bytes | str) -> int | None:
    """The request that a message names, however wrong the rest is: so that its sender knows which one was refused."""
    try:
        number = _parse(raw, MAX_CONTROL).get("id")
    except PeerError:
        return None
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53 else None


def _decode(raw: bytes | str, adapter: TypeAdapter[_M], types: Sequence[str], limit: int = MAX_MESSAGE) -> _M:
    fields = _parse(raw, limit)
    version = fields.get("v", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise PeerError(426, f"Version {_show(version)} is not spoken here, only version {VERSION}; reload the page.")
    kind = fields.get("t")
    if kind not in types:
        known = f"known are {', '.join(types)}."
        raise PeerError(400, f"The message says t = {_show(kind)}; {known}" if "t" in fields else f"The message has no t; {known}")
    try:
        return adapter.validate_python(fields, strict=True)
    except ValidationError as error:
        raise PeerError(400, _sentence(error.errors(include_url=False, include_input=False), str(kind))) from None


def _parse(raw: bytes | str, limit: int = MAX_MESSAGE) -> dict[str, Any]:
    """JSON object or PeerError. `from_json` limits the depth and the digits, and refuses NaN and lone surrogates."""
    try:
        data = raw.encode() if isinstance(raw, str) else raw
    except UnicodeEncodeError:
        raise PeerError(400, "The message is not UTF-8.") from None
    if len(data) > limit:
        raise PeerError(413, f"The message has {len(data)} bytes; at most {limit} are taken.")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise PeerError(400, "The message is not UTF-8.") from None
    try:
        fields = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise PeerError(400, f"The message is not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise PeerError(400, "The message is not a JSON object.")
    return fields


def _sentence(errors: Sequence[ErrorDetails], kind: str) -> str:
    parts = []
    for error in errors[:_SHOWN_ERRORS]:
        # The discriminator's tag comes first in the path and is named apart.
        path = [str(part) for part in error["loc"] if part != "[key]"]
        if path and path[0] == kind:
            del path[0]
        text = error["msg"]
        if error["type"] == "extra_forbidden":
            text = "this key is not known"
        elif error["type"] == "missing":
            text = "it is missing"
        parts.append(f"{_clip('.'.join(path)) or 'itself'}: {_clip(text, 160)}")
    more = f" (and {len(errors) - _SHOWN_ERRORS} more)" if len(errors) > _SHOWN_ERRORS else ""
    return f"The message '{kind}' is wrong at {'; '.join(parts)}{more}."


def _show(value: object) -> str:
    return _clip(repr(value)) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"


def _clip(text: str, chars: int = _SHOWN_CHARS) -> str:
    """Printable and short: the words may come from anyone and go into logs."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: chars + 1])
    return clean if len(clean) <= chars else clean[: chars - 1] + "…"
