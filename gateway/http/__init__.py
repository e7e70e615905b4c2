"""HTTP mechanics that the surfaces share: no use cases, no SQL, no client."""
