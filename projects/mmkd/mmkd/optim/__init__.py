"""Optimizers that published trainings used."""
