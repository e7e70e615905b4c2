"""Errors of OpenID Connect. Their texts are for the log and for administrators, and repeat nothing of a token but names
that a verified one states."""


class IdTokenRefused(Exception):
    """An ID token is not accepted; the text says why."""


class IssuerUnusable(Exception):
    """An issuer does not say what it should, or cannot be reached; the text says why, and holds no secret."""
