"""Mechanics that know no domain: tasks, locks, disk space, failpoints, throttled logging."""
