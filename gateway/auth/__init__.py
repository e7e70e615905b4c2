"""Authentication and permissions: the principal of a request, and its allowed actions."""
