"""Expressions as users write them, each with what an expert would write: how many of those graphopt finds."""
