from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.support.plugin"]

# No deadline: it reads the wall clock, which says nothing on a busy machine. CI repeats the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
