"""Virtual registries: their administration, and the clients of their upstreams."""
