"""The gateway: who asks, in which dialect, and what is recorded about it."""
