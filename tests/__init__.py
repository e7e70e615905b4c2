"""Tests; a package, so that `tests/cache` never shadows the package `cache`."""
