"""One worker does this."""
