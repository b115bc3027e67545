"""Low-bit weights and activations by swapping the class of modules; no model is forked."""
