"""/v2/…: the OCI distribution protocol."""
