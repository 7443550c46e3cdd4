"""Hostile input: records made to break the worker, and a judge that shares no code with it."""
