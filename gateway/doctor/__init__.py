"""Checks of an installation from the outside; each failure has a remedy."""
