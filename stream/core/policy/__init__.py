"""Scores become lists: who may be listed where, in which order, and why."""
