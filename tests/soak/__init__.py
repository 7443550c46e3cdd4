"""The soak: the engine under a steady load, and what grows. `python -m tests.soak`."""
