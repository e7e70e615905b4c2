"""Speed beside the peers, in one run: `tests/bench/run`. Nothing here asserts; it measures and prints ratios."""
