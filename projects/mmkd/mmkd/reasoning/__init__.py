"""Procedural reasoning tasks, and a teacher that solves and explains them."""
