"""Whether garbage collection goes on."""

from gateway.doctor.check import Check, Remedy, failed, warned

_NAME = "garbage collection"


def examine_collection(stopped_reason: str | None, *, asks: bool) -> list[Check]:
    """Tell why nothing that was pushed is collected. `asks`: whether it goes on only when somebody confirms it."""
    if stopped_reason is None:
        return []
    if asks:
        return [failed(_NAME, f"nothing is collected, and the disk fills: {stopped_reason}", Remedy.CONFIRM_COLLECTION)]
    return [warned(_NAME, f"nothing is collected for now: {stopped_reason}", Remedy.AWAIT_COLLECTION)]
