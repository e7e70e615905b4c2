"""/…: pages for people, rendered here, which work without scripts."""
