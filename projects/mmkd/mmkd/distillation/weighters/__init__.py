"""Weights of distillation and labels per sample, one rule per file."""
