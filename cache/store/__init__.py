"""Bytes at rest: stores, the spool that fills them, and its sidecar."""
