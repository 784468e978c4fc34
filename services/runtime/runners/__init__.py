"""What executes a net: torch, ONNX Runtime, eight bits; chosen by measuring."""

import os

# ONNX Runtime reports home, and keeps an id of the machine for it, unless it finds this when it is first imported:
# before any module of this package is.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
