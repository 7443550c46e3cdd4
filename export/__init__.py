"""Training and export of model bundles for Freshet."""

import os

# Before NumPy is loaded: its threads share out products that are too small for it, and a sweep
# of `mf` took nine times as long. PyTorch has threads of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
