"""Families of problems, one a file."""
