"""Retention of cached content: eviction down to limits, and checks of what is stored."""
