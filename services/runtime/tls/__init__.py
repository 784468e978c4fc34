"""Certificates: what a process shows and trusts."""
