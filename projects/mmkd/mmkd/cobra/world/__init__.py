"""A neutral world of statements whose effect follows from their context by rules."""
