"""The benchmark: one job, several engines, one broker, one run. `python -m tests.bench`."""
