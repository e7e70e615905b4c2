"""Facts: what the gateway knows in SQL, and the secrets it keeps sealed there."""
