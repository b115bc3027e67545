"""Frames from a teacher: prompts, answers, stages that can be stopped."""
