"""The rewrites, one idea a file. graphopt finds them by the entry point group `graphopt.passes`."""
