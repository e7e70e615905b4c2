"""Another registry, seen as its client."""
