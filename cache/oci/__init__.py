"""Values of the OCI specifications, which are right by construction; standard library only."""
