"""Schedule: when a delivery that failed is tried again; pure."""

from datetime import timedelta

ATTEMPTS = 10
"""Attempts of a delivery; after the last one it is dead. Together they span some four hours."""
FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=10), timedelta(hours=1)


def delay_after(attempts: int, chance: float) -> timedelta | None:
    """How long a delivery waits after so many attempts that failed; None once it is dead.

    The time doubles with each attempt, and a random half of it keeps many from being tried again at once. `chance`: a
    random number from 0 to 1.
    """
    if attempts >= ATTEMPTS:
        return None
    whole = min(LONGEST_DELAY, FIRST_DELAY * (1 << (attempts - 1)))
    return whole * (0.5 + chance / 2)
