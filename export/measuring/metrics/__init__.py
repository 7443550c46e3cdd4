"""Metrics of recommendation lists. In: arrays. Out: numbers. README.md says what is where."""
