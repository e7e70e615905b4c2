"""Leases: the right of one of several workers to do a thing."""
