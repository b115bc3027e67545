"""Data sets: texts, images and tables, parts of them, and what is spoilt on purpose."""
