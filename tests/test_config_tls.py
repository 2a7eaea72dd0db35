"""`http.tls` in the file, and what `edgeagent check` says of a certificate."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from edgeagent import cli
from edgeagent.app import Agent
from edgeagent.config import Config, Drivers, load
from edgeagent.errors import ConfigError, EdgeAgentError
from edgeagent.tls import own
from edgeagent.tls.certificate import DAY_S

CAMERA = "\ncameras: {test: {driver: test-pattern}}"
DRIVERS = Drivers.installed()


def good(text: str, **variables: str) -> Config:
    return load(text + CAMERA, variables, DRIVERS)


def problem(text: str, path: str) -> str:
    """The text of the only problem, which must be at `path`."""
    with pytest.raises(ConfigError) as caught:
        load(text + CAMERA, {}, DRIVERS)
    (found,) = caught.value.problems
    assert found.path == path
    return found.message


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    data = own.make(own.new_key(), "porch", ["porch.example"], time.time())
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(data[data.index(b"-----BEGIN CERT") :])
    key.write_bytes(data)
    key.chmod(0o600)
    return cert, key


def test_off_and_on() -> None:
    for text in ("", "http: {tls: false}", "http: {tls: }"):
        assert (good(text).http.tls, good(text).http.scheme) == (None, "http")
    for text in ("http: {tls: true}", "http: {tls: {}}", "http: {tls: {names: [Robot.example, 203.0.113.7]}}"):
        tls = good(text).http.tls
        assert tls is not None and tls.cert is None and good(text).http.scheme == "https"
    assert tls is not None and tls.names == ["robot.example", "203.0.113.7"]
    assert good("", EDGEAGENT_HTTP__TLS="true").http.scheme == "https"
    # It changes nothing about who is let in.
    assert "add `token: …`" in problem("http: {tls: true, listen: '0.0.0.0:8443'}", "http.listen")


def test_files_are_found_beside_the_configuration(pair: tuple[Path, Path]) -> None:
    file = pair[0].parent / "edgeagent.yaml"
    file.write_text("http: {tls: {cert: cert.pem, key: key.pem}}" + CAMERA)
    tls = load(file, {}, DRIVERS).http.tls
    assert tls is not None
    assert (tls.cert, tls.key) == (str(pair[0]), str(pair[1]))
    by_variables = good("", EDGEAGENT_HTTP__TLS__CERT=str(pair[0]), EDGEAGENT_HTTP__TLS__KEY=str(pair[1])).http.tls
    assert by_variables == tls


def test_what_is_wrong(pair: tuple[Path, Path]) -> None:
    cert, key = pair
    assert "write true for a certificate" in problem("http: {tls: yes please}", "http.tls")
    assert "write both `cert` and `key`" in problem(f"http: {{tls: {{cert: {cert}}}}}", "http.tls")
    assert "leave out `names`" in problem(f"http: {{tls: {{cert: {cert}, key: {key}, names: [a]}}}}", "http.tls")
    assert "no such file" in problem(f"http: {{tls: {{cert: nothing.pem, key: {key}}}}}", "http.tls.cert")
    assert "no such file" in problem(f"http: {{tls: {{cert: {cert}, key: {cert.parent}}}}}", "http.tls.key")
    assert "write a name or an address" in problem("http: {tls: {names: ['https://a']}}", "http.tls.names.0")
    assert "no such key" in problem("http: {tls: {certs: a}}", "http.tls.certs")


def test_browsers_reach_no_broker_in_the_clear_from_there() -> None:
    text = "http: {{tls: true}}\nmqtt: {{url: 'mqtt://b', web_url: '{}'}}"
    assert "needs wss://" in problem(text.format("ws://broker:9001"), "mqtt")
    for url in ("wss://broker", "ws://127.0.0.1:9001", "ws://localhost:9001"):
        assert good(text.format(url)).mqtt
    assert good("http: {tls: true}\nmqtt: {url: 'mqtt://b'}").mqtt


def test_check_looks_at_the_certificate(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = pair
    file = cert.parent / "edgeagent.yaml"
    file.write_text(f"device: porch\nhttp: {{tls: {{cert: {cert}, key: {key}}}}}" + CAMERA)
    assert cli.main(["check", str(file)]) == 0
    assert "page at 127.0.0.1:8080 by HTTPS" in capsys.readouterr().out
    key.chmod(0o644)
    assert cli.main(["check", str(file)]) != 0
    assert "everybody on this machine may read" in capsys.readouterr().err
    data = own.make(own.new_key(), "porch", ["porch.example"], time.time() - 500 * DAY_S)
    cert.write_bytes(data)
    key.write_bytes(data)
    key.chmod(0o600)
    assert cli.main(["check", str(file)]) == 0
    assert "The certificate has ended on " in capsys.readouterr().out


def test_an_agent_without_a_folder_for_it() -> None:
    with pytest.raises(EdgeAgentError, match="needs a state folder"):
        Agent(good("http: {tls: true}"))


def test_home_assistant_is_told_the_address_that_works() -> None:
    text = "http: {{listen: '192.0.2.7:8443', open: true{}}}\nmqtt: {{url: 'mqtt://b'}}\nhome_assistant: true"
    with tempfile.TemporaryDirectory() as folder:
        for more, url in (("", "http://192.0.2.7:8443/"), (", tls: true", "https://192.0.2.7:8443/")):
            bridge = Agent(good(text.format(more)), state=Path(folder)).bridge
            assert bridge is not None and bridge._home is not None
            assert bridge._home.url == url
