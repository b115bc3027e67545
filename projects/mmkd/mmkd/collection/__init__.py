"""Collecting traces so that nothing is lost and nothing is asked for twice."""
