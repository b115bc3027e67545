"""A page to look through frames and predictions, in one file that loads nothing."""
