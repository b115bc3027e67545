"""Distillation of any classifier: weights per sample, losses, and how both are learned."""
