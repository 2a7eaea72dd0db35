from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.plugin"]

# No deadline, nor a limit of the time to make examples: both read the wall clock, which says nothing on a busy machine.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", patient)
settings.register_profile("ci", patient, derandomize=True, print_blob=True)  # the same examples every time
settings.load_profile("ci" if os.environ.get("CI") else "local")
