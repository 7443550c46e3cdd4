"""Logs as training sees them: where events come from, what is left out, how they are split."""
