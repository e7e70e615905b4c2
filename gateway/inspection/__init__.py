"""Inspection: reads cached content and the reasons for its state as values, and changes nothing."""
