"""The words of the OCI specifications as values that cannot be wrong; standard library only."""
