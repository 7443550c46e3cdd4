"""Reasons in words that shops can translate."""
