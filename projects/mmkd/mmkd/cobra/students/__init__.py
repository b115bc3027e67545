"""Frames as data of students, and what students write."""
