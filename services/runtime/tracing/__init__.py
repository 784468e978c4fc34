"""Spans and metrics to a collector, by OTLP."""
