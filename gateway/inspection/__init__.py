"""Inspection: what is cached and why, as values for commands, REST and pages. Nothing here changes anything."""
