"""A public certificate for browsers, by ACME (RFC 8555): Debian's certbot gets it, keeps it and renews it, by its own timer.

We only call it, and leave it our hook: after each renewal the broker's files are written again and Mosquitto takes the new one.
"""

from __future__ import annotations

__all__ = ["Order", "command", "is_public_name", "obtain"]

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import lasting

_TIMEOUT_S = 300
_HOST = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.ASCII)
_PRIVATE = (".local", ".lan", ".home.arpa", ".internal", ".localhost", ".test")
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@]{1,253}")


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted.

    Attributes:
        host: The public DNS name, which leads here from everywhere.
        email: Who is told of trouble; "" for nobody.
        server: Directory of another CA; "" for certbot's own, Let's Encrypt.
        port: Where certbot listens for the CA, which comes to port 80 of `host`.
        webroot: Folder that a web server shows on that port; "" where certbot listens itself.
        dns: A plugin of certbot by which the CA asks the DNS instead of port 80 (`cloudflare`, `rfc2136` …); "" for none.
        folder: For certbot's files; "" for its own (/etc/letsencrypt), whose timer renews.
    """

    host: str
    email: str = ""
    server: str = ""
    port: int = 80
    webroot: str = ""
    dns: str = ""
    folder: str = ""

    @property
    def pair(self) -> tuple[Path, Path]:
        """Where certbot leaves the newest certificate with its chain, and the key."""
        live = Path(self.folder or "/etc/letsencrypt") / ("config/live" if self.folder else "live") / f"edgeagent-{self.host}"
        return live / "fullchain.pem", live / "privkey.pem"


def command(order: Order, site: Path) -> list[str]:
    """How certbot is called; again, that renews the certificate only where it is due.

    Raises:
        EdgeAgentError: The name cannot have a public certificate, or the address is none.
    """
    if not is_public_name(order.host):
        raise EdgeAgentError(
            f"{order.host[:120]!r} cannot have a public certificate: that needs a DNS name of yours which leads here from the "
            "Internet, like hub.example.org. Without one, browsers in your own network can use the pages of the boards themselves."
        )
    if order.email and not _EMAIL.fullmatch(order.email):
        raise EdgeAgentError(f"{order.email[:120]!r} is no e-mail address.")
    # -I: `certbot renew` by hand runs it in whatever folder root is in, and no code from there may count.
    hook = [
        str(lasting(Path(sys.executable))),
        "-I",
        "-m",
        "edgeagent",
        "provision",
        "broker",
        "mosquitto",
        "--site",
        str(site.absolute()),
    ]
    words = ["certonly", "--non-interactive", "--agree-tos", "--keep-until-expiring", "--cert-name", f"edgeagent-{order.host}"]
    words += ["--domain", order.host, "--key-type", "ecdsa", "--deploy-hook", shlex.join(hook)]
    words += ["--email", order.email] if order.email else ["--register-unsafely-without-email"]
    words += ["--server", order.server] if order.server else []
    if order.dns:
        words += [f"--dns-{order.dns}"]
    elif order.webroot:
        words += ["--webroot", "--webroot-path", str(Path(order.webroot).absolute())]
    else:
        words += ["--standalone", "--preferred-challenges", "http", "--http-01-port", str(order.port)]
    if order.folder:
        for name in ("config", "work", "logs"):
            words += [f"--{name}-dir", str(Path(order.folder).absolute() / name)]
    return ["certbot", *words]


def is_public_name(host: str) -> bool:
    """Whether a CA that browsers trust can certify this DNS name."""
    return _HOST.fullmatch(host) is not None and not host.endswith(_PRIVATE)


def obtain(
    order: Order,
    site: Path,
    *,
    environment: Mapping[str, str] | None = None,
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
) -> tuple[Path, Path]:
    """Get a certificate, or see that the one there is lasts.

    Args:
        site: The site's folder, for the hook.
        environment: Of certbot.
        run: As `subprocess.run`.

    Returns:
        Paths of certificate and key, which stay the same at each renewal.

    Raises:
        EdgeAgentError: certbot is missing, or the CA refused; with what it said.
    """
    words = command(order, site)
    program = shutil.which("certbot")
    if program is None:
        raise EdgeAgentError("certbot is missing: sudo apt-get install certbot")
    try:
        done = run([program, *words[1:]], capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, cwd="/", check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeAgentError(f"certbot did not end well: {error}.") from None
    cert, key = order.pair
    if done.returncode != 0 or not cert.exists():
        raise EdgeAgentError(f"No certificate for {order.host}: {_said(done.stderr + done.stdout)}")
    return cert, key


def _said(output: str) -> str:
    """The lines that say what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    kept = [line for line in lines if line.startswith(("Detail:", "Hint:", "Type:")) or "rror" in line] or lines[-3:]
    return " ".join(kept)[:900] or "certbot said nothing."
