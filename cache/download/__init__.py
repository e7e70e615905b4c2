"""Bytes on their way: one download, many readers, whatever breaks meanwhile."""
