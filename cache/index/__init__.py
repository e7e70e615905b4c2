"""What the cache remembers about bytes: who may have them, what tags point to, when they were last used."""
