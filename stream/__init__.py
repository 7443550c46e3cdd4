"""Freshet: streaming real-time personalization."""
