"""End-to-end tests: real clients against real servers."""
