#!/usr/bin/env bash
# Makes .venv from a hashed lock, unless it is there and current.
# Usage: ensure-venv.sh run|dev [PYTHON]      dev holds all of run, so a current dev environment serves both.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=$1
wanted=${2:-python3}
lock=requirements.lock
[ "$mode" = dev ] && lock=requirements-dev.lock

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

python=
for candidate in "$wanted" python3.13 python3.12 python3.11 /usr/bin/python3; do
  if supported "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo "edgeagent needs Python 3.11, 3.12 or 3.13; $wanted is $("$wanted" --version 2>&1 | head -n 1)." >&2
  echo "Install one (Debian 12 and 13, Raspberry Pi OS: sudo apt-get install python3-venv) or type: make PYTHON=/path/to/python …" >&2
  exit 1
fi

# What the environment was made from; an environment whose interpreter has gone is made anew.
stamp_of() { cat "$1" pyproject.toml scripts/ensure-venv.sh | sha256sum | cut -d' ' -f1; }
current() { [ -f ".venv/.stamp-$1" ] && [ "$(cat ".venv/.stamp-$1")" = "$(stamp_of "$2")" ]; }
if supported .venv/bin/python; then
  current dev requirements-dev.lock && exit 0
  [ "$mode" = run ] && current run requirements.lock && exit 0
else
  rm -rf .venv
  echo "making .venv with $("$python" --version 2>&1)"
  "$python" -m venv .venv
fi

rm -f .venv/.stamp-*
echo "installing $lock"
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
# The back end first: it is pinned in the lock, so that nothing is fetched to build the one package that comes as source only (pure
# Python) and, below, our own.
pip install --quiet --require-hashes --only-binary :all: -r <(sed -n '/^setuptools==/,/^[a-z].*==/{/^setuptools\|^ /p}' "$lock")
pip install --quiet --require-hashes --only-binary :all: --no-binary wsdiscovery --no-build-isolation -r "$lock"
# Without setuptools' advice to whoever develops packages.
PYTHONWARNINGS='ignore:Editable installation' pip install --quiet --no-build-isolation --no-deps --editable .
stamp_of "$lock" > ".venv/.stamp-$mode"
