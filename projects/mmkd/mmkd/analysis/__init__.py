"""What a trained network's loss looks like around its weights: surfaces and curvature."""
