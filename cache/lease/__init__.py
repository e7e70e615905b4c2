"""Leases: one worker of several does a thing."""
