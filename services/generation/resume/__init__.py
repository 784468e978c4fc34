"""Streams written down as they are told, so that any replica goes on with them."""
