"""Tests that need PyTorch: `make test-export`."""
