"""What a board keeps of its site's orders, in its state folder, mode 0600.

orders.json              the highest number obeyed, the highest sent, settings in force and on trial, an upgrade under way
desired.<version>.yaml   settings; which of them counts, orders.json says alone
"""

from __future__ import annotations

__all__ = ["Store"]

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeagent.core.orders import Outcome, Record, Tried, next_number
from edgeagent.enrol import keys
from edgeagent.errors import EdgeAgentError
from edgeagent.wire.orders import settings_version

_log = logging.getLogger(__name__)
_FORMAT = 1
_DAMAGED = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


class Store:
    """Read once at the start; written whole, and on disk before a method returns.

    Attributes:
        after: The highest number of an order that was obeyed.
        sent: The highest number of a report; numbers up to it may have been used.
        record: Settings in force and on trial.
        upgrade: Number of the order for an upgrade whose end was not told yet; 0 where there is none.

    Args:
        state: The agent's state folder; made where there is none.
        member: Which membership this is of (`Identity.id_thumbprint`): of another's, as an agent may write it while the board is
            being reset, nothing counts.

    What is damaged is set aside (orders.json.damaged): the board begins as when it was enrolled, and its site, which hears that,
    orders its settings anew. No older order counts again by that, for each is bound to a run of the board (`core.orders`).

    Raises:
        EdgeAgentError: What lies there may not be read, or is of a newer version.
    """

    def __init__(self, state: Path, member: str = "") -> None:
        self._begin(state, member)
        try:
            self._read()
        except _DAMAGED:
            self.after = self.sent = self.upgrade = 0
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_name("orders.json.damaged"))
            _log.warning("%s is damaged: the board begins without what its site had set, which comes again.", self._path)

    @classmethod
    def seen(cls, state: Path, member: str = "") -> Store:
        """As `Store`, for those who only look: what is damaged stays where it is.

        Raises:
            EdgeAgentError: As above, or it is damaged.
        """
        store = cls.__new__(cls)
        store._begin(state, member)
        try:
            store._read()
        except _DAMAGED:
            raise EdgeAgentError(
                f"{store._path} is damaged: at its next start the board begins without what its site had set, which comes again."
            ) from None
        return store

    def _begin(self, state: Path, member: str) -> None:
        self._folder, self._member = state, member
        self._path = state / "orders.json"
        self.after = self.sent = self.upgrade = 0
        self.record = Record()

    def _read(self) -> None:
        if not self._path.exists():
            return
        told = json.loads(keys.read_private(self._path))
        if told["format"] != _FORMAT:
            raise EdgeAgentError(f"{self._path} was written by a newer version of edgeagent: install that version again.")
        if told.get("member", self._member) != self._member:
            return
        self.after, self.sent, self.upgrade = int(told["after"]), int(told["sent"]), int(told["upgrade"])
        kept = told["record"]
        tried = Tried(**kept["tried"]) if kept["tried"] else None
        outcome = Outcome(**kept["outcome"]) if kept["outcome"] else None
        self.record = Record(kept["settings"], tried, outcome)

    def save(self) -> None:
        """Write everything down."""
        told = {
            "format": _FORMAT,
            "member": self._member,
            "after": self.after,
            "sent": self.sent,
            "upgrade": self.upgrade,
            "record": asdict(self.record),
        }
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys.write(self._path, json.dumps(told, indent=1))

    def keep(self, record: Record) -> None:
        """Write the record down, and remove settings that it no longer names."""
        self.record = record
        self.save()
        named = {record.settings, *([record.tried.version] if record.tried else [])}
        for path in self._folder.glob("desired.*.yaml"):
            if path.name.split(".")[1] not in named:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def path(self, version: str) -> Path | None:
        """The file of these settings; None for the board's own file."""
        return self._folder / f"desired.{version}.yaml" if version else None

    def lay(self, settings: Mapping[str, Any]) -> str:
        """Lay settings ready, and return their version; they count once the record names them."""
        version = settings_version(settings)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(version)
        assert path is not None
        # JSON is YAML, too; indented, so that a person can read it.
        keys.write(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return version

    def next_number(self, wall_s: float) -> int:
        """The number of the next report; `save` writes down a good many at once, see `reserve`."""
        self.sent = next_number(self.sent, wall_s)
        return self.sent
