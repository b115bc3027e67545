"""Frames that a student writes: their texts, their verdicts on offence, what contexts change."""
