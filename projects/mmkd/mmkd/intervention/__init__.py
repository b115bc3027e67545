"""Teacher Intervention: ternary Transformers whose first steps lean on the teacher's signals."""
