"""Freshet: streaming real-time personalization."""

import os

# ONNX Runtime has a telemetry client. It is off here, before anybody imports the library, unless
# the environment says otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
