"""Data sets distilled by matching the trajectories of experts."""
