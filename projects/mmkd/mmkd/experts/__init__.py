"""Networks that are trained to be imitated: their optimizer, their trajectories on disk."""
