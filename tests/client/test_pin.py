"""The client and an agent that has a certificate of its own: known by a fingerprint, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.client import Refused, connect
from edgeagent.client.doors import HttpDoor
from edgeagent.client.pin import parse_fingerprint
from edgeagent.tls.certificate import of_pem
from tests.http.support import https, own

PRINT = ":".join(["AB"] * 32)


@pytest.mark.realtime
async def test_the_agents_own_certificate(tmp_path: Path) -> None:
    async with https(own(tmp_path)) as agent:
        base, file = f"https://127.0.0.1:{agent.port}", tmp_path / "https.pem"
        certificate = of_pem(file.read_bytes())

        async def name(ca_file: str | None = None, pin: str | None = None, base: str = base) -> str:
            door = HttpDoor(base, None, ca_file, parse_fingerprint(pin) if pin else None)
            try:
                return (await door.open()).device
            finally:
                await door.close()

        for known in (certificate.fingerprint, certificate.fingerprint.replace(":", "").lower(), certificate.key_fingerprint):
            assert await name(pin=known) == "porch"
        assert await name(ca_file=str(file)) == "porch"
        with pytest.raises(Refused, match=f"shows another certificate \\({certificate.fingerprint}\\)") as refused:
            await name(pin=PRINT)
        assert refused.value.code == 495
        with pytest.raises(Refused, match=r"is not trusted .*fingerprint=") as refused:
            await name()
        assert refused.value.code == 495
        with pytest.raises(Refused, match="speaks HTTPS: write https://"):
            await name(base=base.replace("https", "http"))
        # For good: nobody is asked again in vain.
        with pytest.raises(Refused, match="is not trusted"):
            async with connect(base, timeout_s=600):
                raise AssertionError("nobody knows it")


@pytest.mark.parametrize("text", ["", "AB:CD", PRINT + ":AB", "x" * 64, PRINT.replace(":", "-")])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        connect("https://robot", fingerprint=text)


def test_what_a_fingerprint_goes_with() -> None:
    connect("https://robot", fingerprint=PRINT)
    for address, ca_file in (("http://robot", None), ("mqtts://broker/porch", None), ("https://robot", "ca.pem")):
        with pytest.raises(ValueError, match="begins with https://"):
            connect(address, fingerprint=PRINT, ca_file=ca_file)
