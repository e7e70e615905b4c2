"""The tree in the memory of one process: looked up in the database, and dropped by changes."""
