"""Bytes: their names, where they rest, how they arrive from elsewhere once and are read by many."""
