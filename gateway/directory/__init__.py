"""The tree as one process knows it: looked up in the database, kept in memory, dropped by changes."""
