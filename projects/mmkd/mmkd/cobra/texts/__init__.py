"""Frames as texts for students, and back."""
