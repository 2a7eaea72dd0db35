"""What the doctor prints."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.doctor.report import Finding, Level, Report, notice, ok, problem

FINDINGS = [
    ok("ice", "No STUN or TURN server is configured."),
    problem("camera.gate", "gate: The camera refuses the password.", "Check `cameras.gate.url`.", phase="failed"),
    notice("clock", "No time server keeps this clock right.", "Run `sudo timedatectl set-ntp true`.", set=True),
    ok("board.model", "Raspberry Pi 5 Model B Rev 1.0, 4 processors."),
]


def test_what_a_person_reads() -> None:
    assert Report.of("1.2", "porch", FINDINGS).as_text() == (
        "edgeagent 1.2 on porch\n"
        "\n"
        "Board\n"
        "  ok       Raspberry Pi 5 Model B Rev 1.0, 4 processors.\n"
        "  notice   No time server keeps this clock right.\n"
        "           Run `sudo timedatectl set-ntp true`.\n"
        "\n"
        "Cameras\n"
        "  problem  gate: The camera refuses the password.\n"
        "           Check `cameras.gate.url`.\n"
        "\n"
        "Network\n"
        "  ok       No STUN or TURN server is configured.\n"
        "\n"
        "1 problem, 1 notice."
    )


def test_what_a_machine_reads() -> None:
    report = json.loads(Report.of("1.2", "porch", FINDINGS).as_json())
    assert {key: report[key] for key in ("v", "version", "device", "level")} == {
        "v": 1, "version": "1.2", "device": "porch", "level": "problem",
    }  # fmt: skip
    assert report["findings"][2] == {
        "check": "camera.gate",
        "level": "problem",
        "text": "gate: The camera refuses the password.",
        "advice": "Check `cameras.gate.url`.",
        "facts": {"phase": "failed"},
    }


def test_the_worst_counts() -> None:
    assert [Report.of("1", "", FINDINGS[:n]).level for n in (0, 1, 2)] == [Level.OK, Level.OK, Level.PROBLEM]
    assert Report.of("1", "", FINDINGS[2:]).level is Level.NOTICE
    assert Report.of("1", "", FINDINGS[:1]).as_text().endswith("All is well.")
    assert "\033[31mproblem " in Report.of("1", "", FINDINGS).as_text(colour=True)


@given(
    st.text(st.characters(codec="utf-8"), min_size=4, max_size=20).filter(lambda s: s.strip() and s not in "problem cameragate***")
)
def test_secrets_stay_secret(secret: str) -> None:
    finding = problem("camera.gate", f"A {secret} B", f"rtsp://user:{secret}@host/x", said=secret, more={"deep": [secret]})
    (clean,) = Report.of("1", "porch", [finding], [secret]).findings
    assert clean.text == "A *** B"
    assert clean.facts["said"] == "***"
    assert clean.facts["more"] == {"deep": ["***"]}
    assert secret not in clean.advice.removeprefix("rtsp://").removesuffix("@host/x")


texts = st.text(st.characters(codec="utf-8"), max_size=300)
findings = st.builds(Finding, st.sampled_from(["board.x", "http", "new-check", "camera.a"]), st.sampled_from(Level), texts, texts)


@given(st.lists(findings, max_size=6), st.integers(0, 200))
def test_no_finding_is_lost_and_no_line_grows_without_need(found: list[Finding], width: int) -> None:
    report = Report.of("1", "porch", found)
    assert len(report.findings) == len(found)
    assert len(json.loads(report.as_json())["findings"]) == len(found)
    for line in report.as_text(width=width).splitlines():
        assert len(line) <= max(width, 31) or " " not in line[11:].strip()
