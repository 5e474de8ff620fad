"""Accepted work in, a new version out."""
