"""Benchmarks of all methods; the demo uses their training runs."""
