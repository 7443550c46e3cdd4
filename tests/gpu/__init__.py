"""CUDA against NumPy and the CPU: tests, and `python -m tests.gpu`, which also measures."""
