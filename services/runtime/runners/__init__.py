"""What executes a net: torch, ONNX Runtime, eight bits; chosen by measuring."""
