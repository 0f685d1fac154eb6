"""Thousands of small programs, each run by eager and by what graphopt makes of it, and compared."""
