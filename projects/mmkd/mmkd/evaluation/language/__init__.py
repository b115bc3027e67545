"""What language models answer: multiple choice, free text, and a judge's scores."""
