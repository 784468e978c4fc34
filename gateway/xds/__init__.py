"""Replicas as a control plane tells them."""
