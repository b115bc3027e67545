"""Tensors inside Transformers: finding, recording and replacing them, by role."""
