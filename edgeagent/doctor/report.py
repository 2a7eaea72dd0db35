"""What the doctor finds, for people and for machines."""

from __future__ import annotations

__all__ = ["Finding", "Level", "Report", "notice", "ok", "problem"]

import enum
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeagent.core.redact import redact

_WIDTH = 100
_SECTIONS = {
    "Board": ("board", "clock"),
    "Program": ("config", "site", "program", "service", "devices"),
    "Cameras": ("camera", "encoder", "join"),
    "Devices": ("device",),
    "Network": ("http", "tls", "udp", "firewall", "dns", "broker", "ice"),
}
_COLOURS = {"ok": "32", "notice": "33", "problem": "31"}


class Level(enum.StrEnum):
    """How much it matters."""

    OK = "ok"
    NOTICE = "notice"  # works, and could be better
    PROBLEM = "problem"  # does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Which: a word, or a word and a name like `camera.gate`. Stable, for machines.
        level: How much it matters.
        text: What was found, a sentence or two that a homeowner understands.
        advice: What to do about it; "" where there is nothing to do, or `text` says so already.
        facts: The numbers behind it, for machines; names are stable within a check.
    """

    check: str
    level: Level
    text: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(check: str, text: str, **facts: Any) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, text, facts=facts)


def notice(check: str, text: str, advice: str = "", **facts: Any) -> Finding:
    """It works, and could be better."""
    return Finding(check, Level.NOTICE, text, advice, facts)


def problem(check: str, text: str, advice: str = "", **facts: Any) -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, text, advice, facts)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of one run.

    Attributes:
        version: The agent's.
        device: The device's name in the configuration, "" without one.
        findings: In the order of the sections below.
    """

    version: str
    device: str
    findings: Sequence[Finding]

    @classmethod
    def of(cls, version: str, device: str, findings: Iterable[Finding], secrets: Sequence[str] = ()) -> Report:
        """Put findings in order, and take `secrets` and the credentials in URLs out of them."""
        places = {word: place for place, word in enumerate(word for words in _SECTIONS.values() for word in words)}
        ordered = sorted(findings, key=lambda finding: places.get(_word(finding), len(places)))
        return cls(version, device, [_without(secrets, finding) for finding in ordered])

    def count(self, level: Level) -> int:
        """How many findings are of this level."""
        return sum(finding.level is level for finding in self.findings)

    @property
    def level(self) -> Level:
        """The worst level found."""
        return next((level for level in (Level.PROBLEM, Level.NOTICE) if self.count(level)), Level.OK)

    def as_json(self) -> str:
        """One JSON object. Keys are only ever added while `v` stays the same."""
        findings = [
            {"check": f.check, "level": f.level, "text": f.text, "advice": f.advice, "facts": dict(f.facts)} for f in self.findings
        ]
        report = {"v": 1, "version": self.version, "device": self.device, "level": self.level, "findings": findings}
        return json.dumps(report, ensure_ascii=False, indent=2)

    def as_text(self, *, colour: bool = False, width: int = _WIDTH) -> str:
        """Lines for people, at most `width` columns where words allow it."""
        lines = [f"edgeagent {self.version}{f' on {self.device}' if self.device else ''}"]
        for title, words in _SECTIONS.items():
            section = [finding for finding in self.findings if _word(finding) in words]
            if section:
                lines += ["", title, *(line for finding in section for line in _lines(finding, colour, width))]
        return "\n".join([*lines, "", self._summary()])

    def _summary(self) -> str:
        problems, notices = self.count(Level.PROBLEM), self.count(Level.NOTICE)
        if not problems and not notices:
            return "All is well."
        return f"{_counted(problems, 'problem')}, {_counted(notices, 'notice')}.".capitalize()


def _lines(finding: Finding, colour: bool, width: int) -> list[str]:
    word = f"{finding.level:<8}"
    if colour:
        word = f"\033[{_COLOURS[finding.level]}m{word}\033[0m"
    room = max(20, width - 11)
    # Long words (commands, addresses) stay whole, so that they can be copied.
    wrapped = [
        line
        for text in (finding.text, finding.advice)
        for line in textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    ]
    return [f"  {word} {wrapped[0] if wrapped else ''}", *(f"{'':11}{line}" for line in wrapped[1:])]


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _word(finding: Finding) -> str:
    return finding.check.partition(".")[0]


def _without(secrets: Sequence[str], finding: Finding) -> Finding:
    def clean(value: Any) -> Any:
        match value:
            case str():
                return redact(value, secrets)
            case dict():
                return {key: clean(inner) for key, inner in value.items()}
            case list() | tuple():
                return [clean(inner) for inner in value]
        return value

    return replace(finding, text=clean(finding.text), advice=clean(finding.advice), facts=clean(dict(finding.facts)))
