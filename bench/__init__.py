"""What graphopt is run on, and what came of it. Not part of the wheel."""
