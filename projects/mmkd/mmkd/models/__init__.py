"""Networks as configs name them, and teachers that stay as they are."""
