"""Codes to files that other tools read."""
