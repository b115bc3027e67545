"""Networks that the literature on dataset condensation trains and evaluates with."""
