"""Benchmark: measures the speed beside the peers in one run: `tests/bench/run`. It asserts nothing and prints
ratios."""
