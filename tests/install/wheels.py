"""Small releases: a wheel that has the names of ours and, where asked, does not work, in a wheelhouse with its lock."""

from __future__ import annotations

__all__ = ["Service", "wheelhouse"]

import base64
import hashlib
import zipfile
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install.wheels import digest

ROOT = Path(__file__).parents[2]


def wheelhouse(folder: Path, version: str, *, app: str = "", cli: str = "def main(): print('fine')") -> Path:
    """Make one.

    Args:
        folder: Is made.
        version: Of the release.
        app: Source of its `edgeagent.app`, which the self-test imports.
        cli: Source of its `edgeagent.cli`.
    """
    base = f"edgeagent-{version}"
    files = {
        "edgeagent/__init__.py": "",
        "edgeagent/app.py": app,
        "edgeagent/cli.py": cli,
        "edgeagent/keeper.py": "",
        "edgeagent/drivers/__init__.py": "",
        "edgeagent/drivers/registry.py": "def names(): return []",
        f"{base}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: edgeagent\nVersion: {version}\n",
        f"{base}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{base}.dist-info/entry_points.txt": "[console_scripts]\nedgeagent = edgeagent.cli:main\n",
    }
    for path in sorted((ROOT / "systemd").rglob("*.*")):
        if path.is_file():
            files[f"{base}.data/data/share/edgeagent/systemd/{path.relative_to(ROOT / 'systemd')}"] = path.read_text()
    record = "".join(f"{name},sha256={_hash(text)},{len(text.encode())}\n" for name, text in files.items())
    files[f"{base}.dist-info/RECORD"] = record + f"{base}.dist-info/RECORD,,\n"
    wheel = folder / "wheels" / f"{base}-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    (folder / "requirements.txt").write_text(f"edgeagent=={version} \\\n    --hash=sha256:{digest(wheel)}\n")
    return folder


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Service:
    """Stands in for systemd; releases named in `bad` do not get ready, those in `dying` do not run on,
    those in `deaf` reach no broker.

    Args:
        current: The link that a start follows.
    """

    def __init__(self, current: Path) -> None:
        self._current = current
        self.bad: set[str] = set()
        self.dying: set[str] = set()
        self.deaf: set[str] = set()
        self.started: list[str] = []
        self.enabled = False

    def _version(self) -> str:
        return self._current.resolve().name.split("-")[0]

    def reload(self) -> None:
        pass

    def enable(self) -> None:
        self.enabled = True

    def restart(self) -> None:
        self.started.append(self._version())
        if self._version() in self.bad:
            raise EdgeAgentError("edgeagent.service did not get ready")

    def steady(self) -> bool:
        return self._version() not in self.dying

    def heard(self) -> bool:
        return self._version() not in self.deaf
