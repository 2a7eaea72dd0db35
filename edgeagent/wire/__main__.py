"""`python -m edgeagent.wire`: write the JSON Schema and the browser's types; `--check` only says whether they are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgeagent.wire.schema import json_schema, typescript

PACKAGE = Path(__file__).resolve().parent.parent


def outputs() -> dict[Path, str]:
    """What belongs into which file."""
    return {
        PACKAGE / "wire" / "schema.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        PACKAGE / "web" / "wire.d.ts": typescript(),
    }


def main(arguments: list[str]) -> int:
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        print(f"{'stale' if '--check' in arguments else 'written'}: {path.relative_to(PACKAGE.parent)}")
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(outputs()[path], "utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
