"""Maintenance of the cache as use cases: evict, refresh, verify, heal, warm. It prints nothing."""
