"""Finds out by execution what each ATen operator does besides returning results.

`python -m bench.operators.confirm` writes `graphopt/ir/operators.tsv`.
"""
