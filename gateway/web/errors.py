"""Errors of pages: what is raised below becomes a page that says what happened and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cache.oci.errors import RefusalReason, RegistryError
from cache.sqlite import DatabaseUnusable
from gateway.auth.decisions import Refusal
from gateway.http.errors import unusable_database
from gateway.inspection.place_finder import PlaceMoved, PlaceRefused, PlaceUnknown
from gateway.namespaces.errors import PathReserved, PathTaken, TreeError
from gateway.namespaces.old_path import RESERVED


@dataclass(frozen=True, slots=True)
class ErrorText:
    """What an error page says. `reason`: for the log; `title` and `advice` are for people."""

    status: int
    title: str
    advice: str
    counted_as: RefusalReason
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)


class PageError(Exception):
    """A refused request for a page."""

    status, title, counted_as = 400, "This request was not understood", RefusalReason.INVALID

    def __init__(self, advice: str, reason: str = "") -> None:
        """`advice`: what to do, for people; `reason`: for the log, where it says more."""
        super().__init__(advice)
        self.advice = advice
        self.reason = reason or advice

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {}


class PageUnknown(PageError):
    """There is no such page, or the visitor may not know of what it shows."""

    status, title, counted_as = 404, "There is nothing here", RefusalReason.NAME_UNKNOWN

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "The address may be mistyped, what was here may have been deleted, or you may not be allowed to see it. "
            "Whoever manages it can make you a member.",
            reason or "there is no such page",
        )


class PageForbidden(PageError):
    """The visitor may know of the place, and not do this there."""

    status, title, counted_as = 403, "You may not do this", RefusalReason.DENIED


class FormRefused(PageError):
    """A form does not come from a page of this server, or comes too late."""

    status, title, counted_as = 403, "This form is not valid any more", RefusalReason.DENIED

    def __init__(self, reason: str) -> None:
        super().__init__("Go back, reload the page, and send the form again. Nothing was changed.", reason)


class MethodUnknown(PageError):
    """A page has no such method."""

    status, title, counted_as = 405, "This address takes no such request", RefusalReason.UNSUPPORTED

    def __init__(self, allowed: str) -> None:
        super().__init__("Open the page anew from its menu.", "the page has no such method")
        self._allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self._allowed}


class SignInNeeded(Exception):
    """The page is for people who are signed in, or signing in may help. `reason`: for the log."""

    def __init__(self, reason: str = "the page is for people who are signed in") -> None:
        super().__init__(reason)
        self.reason = reason


RENDERED = (PageError, RegistryError, TreeError, DatabaseUnusable, PlaceUnknown, PlaceRefused, PlaceMoved)
"""What is raised below, and rendered as a page."""


def needs_sign_in(error: Exception, *, is_anonymous: bool) -> bool:
    """Whether an error leads a visitor to the sign-in page. Nobody who is not signed in learns from it whether there is
    anything."""
    return is_anonymous and isinstance(error, SignInNeeded | PlaceUnknown | PlaceRefused)


def text_of(error: Exception) -> ErrorText:
    """What the page of an error says."""
    if isinstance(error, DatabaseUnusable):
        error = unusable_database()
    if isinstance(error, PlaceUnknown):
        error = PageUnknown(error.reason)
    if isinstance(error, PlaceRefused):
        told = error.decision.refusal in (Refusal.DENIED, Refusal.UNSUPPORTED)
        error = PageForbidden(sentence(error.decision.reason)) if told else PageUnknown(error.decision.reason)
    if isinstance(error, PageError):
        return ErrorText(error.status, error.title, error.advice, error.counted_as, error.reason, error.headers)
    if isinstance(error, RegistryError):
        said = error.detail if isinstance(error.detail, str) else error.message
        title = _TITLES.get(error.status, "This did not work")
        return ErrorText(error.status, title, sentence(said), error.counted_as, error.reason or said, error.headers)
    return ErrorText(409, "This cannot be done as things are", refusal(error), RefusalReason.INVALID, str(error))


def refusal(error: Exception) -> str:
    """What people are told of a refusal of the tree: not what has a path that they want, which may be hidden."""
    if isinstance(error, PathReserved):
        return f"The path {RESERVED}."
    if isinstance(error, PathTaken):
        return "The path has already been taken."
    return sentence(str(error))


UNEXPECTED = ErrorText(
    500,
    "This server failed",
    "Try again. If it fails again, tell whoever looks after this server the request id below: the log has the cause "
    "beside it.",
    RefusalReason.FAULT,
    "",
)

_TITLES = {
    401: "Sign in again",
    403: "You may not do this",
    404: "There is nothing here",
    413: "This is too large",
    429: "Too many requests",
    503: "This server cannot do this at the moment",
}


def sentence(text: str) -> str:
    """A text that begins with a capital and ends with a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."
