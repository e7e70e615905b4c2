"""Pages that are for administrators of the server alone."""

from gateway.namespaces.user import User
from gateway.web.errors import PageForbidden
from gateway.web.visit import Visit


def require_administrator(visit: Visit) -> User:
    """The administrator who is signed in. Raises SignInNeeded, PageForbidden."""
    user = visit.require_user()
    if not user.admin:
        raise PageForbidden("This page is for administrators of this server.")
    return user
