"""Measurements, run by `make bench` or `python -m tests.bench`; see `tests/bench/__main__.py`."""
