"""Filters of traces; each gives a rule's status to what it would leave out."""
