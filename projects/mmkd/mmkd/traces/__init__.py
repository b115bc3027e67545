"""Explanation traces: queries, records, filters and files (Orca, arXiv:2306.02707)."""
