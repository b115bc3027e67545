"""Losses between student and teacher, one per file."""
