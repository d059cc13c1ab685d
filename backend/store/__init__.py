"""Bytes by key, wherever they lie."""
