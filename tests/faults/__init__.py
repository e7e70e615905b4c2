"""Faults: what breaks around the server under test, who pulls from it meanwhile, and who judges what came of it."""
