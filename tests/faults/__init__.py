"""Fault tests: faults around the server under test, clients that pull meanwhile, and a checker that judges the
results."""
