"""Upstream registries, and the client side of their protocol."""
