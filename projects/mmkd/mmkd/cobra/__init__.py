"""COBRA frames: what a statement does in its context (arXiv 2306.01985)."""
