"""The parts of ``make setup``; standard library only."""
