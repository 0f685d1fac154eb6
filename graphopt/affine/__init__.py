"""Linear maps of what a call brings, with weights that calls do not change, and what can move into these."""
