"""Quotas, usage and cost by tenant."""
