"""Tables of frames: released files, pairs of contexts, Parquet, splits."""
