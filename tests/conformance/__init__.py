"""The conformance suite of the OCI distribution specification, run against our server."""
