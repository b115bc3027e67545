"""Solvers that know a family's questions by their text alone, one a file."""
