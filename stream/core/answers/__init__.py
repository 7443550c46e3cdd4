"""Requests become answers. See README.md."""
