"""Refused logins: errors that tell the client what it may know, and the log whose login it was and why."""

from cache.oci.errors import TooManyRequests, Unauthorized


class LoginRefused(Unauthorized):
    """The user name and the secret are not accepted.

    `account`: the user, or the credential whose right secret was presented; None where there is none. It never holds
    what the client sent.
    """

    def __init__(self, detail: str, account: str | None, reason: str = "") -> None:
        """`reason`: for the log alone, where it says more than `detail`."""
        super().__init__(detail)
        self.account = account
        self.reason = reason or detail


class LoginDelayed(TooManyRequests):
    """The login was not examined, because of others before it. `account`: the user; None where no user has the name."""

    def __init__(self, refused: TooManyRequests, account: str | None) -> None:
        super().__init__(refused.detail)
        self.headers = dict(refused.headers)
        self.account = account
        self.reason = str(refused.detail)
