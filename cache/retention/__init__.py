"""Bytes that are kept: whether they are as they were written, and which of them go."""
