"""Check: one thing that was looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """`ok` is None where it could not be looked at; then `detail` says why. `remedy` is there where it failed."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""

    def document(self) -> dict[str, object]:
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "remedy": self.remedy}


def passed(name: str, detail: str) -> Check:
    return Check(name, True, detail)


def failed(name: str, detail: str, remedy: str) -> Check:
    return Check(name, False, detail, remedy)


def not_run(name: str, why: str) -> Check:
    return Check(name, None, why)
