"""Semi-supervised 2D pose estimation on mmpose."""
