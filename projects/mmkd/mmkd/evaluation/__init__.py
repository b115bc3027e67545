"""Metrics of classification and regression as GLUE counts them."""
