"""Augmentation of batches on their device, as a function of recorded numbers."""
