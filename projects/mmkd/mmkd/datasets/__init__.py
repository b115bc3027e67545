"""Texts and their labels: tables, tokenizers, data sets, batches."""
