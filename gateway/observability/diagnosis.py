"""Diagnoses: checks of the installation that administrators request, one run at a time on a host.

A run is a process of its own, as a person would start it: it reads the settings anew, and asks the server from outside.
What it found is kept in the data folder, so that every process of the server shows it.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from cache.runtime import files
from cache.runtime.locks import ProcessRole
from cache.runtime.tasks import Tasks

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "gateway.cli.diagnosis")

LONGEST_SECONDS = 300.0
"""How long a run may take: each upstream that does not respond takes its time."""

OUTPUT_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FoundCheck:
    """One check. `ok`: None where it could not be made; `remedy`: what to do, empty where there is nothing to do."""

    name: str
    ok: bool | None
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The last run. `ended_at`: None while it is under way, or where it was interrupted. `problem`: why it found
    nothing; empty where it did."""

    began_at: datetime
    ended_at: datetime | None = None
    checks: Sequence[FoundCheck] = ()
    problem: str = ""


class Diagnoses:
    """Runs of a data folder. Methods that read block; one that begins belongs to the event loop of `tasks`."""

    def __init__(
        self, data: Path, tasks: Tasks, clock: Callable[[], datetime], command: Sequence[str] = COMMAND
    ) -> None:
        self._data = data
        self._tasks = tasks
        self._clock = clock
        self._command = command

    def is_running(self) -> bool:
        """Whether a run is under way, in any process of the host. Raises OSError."""
        role = self._role()
        is_free = role.take()
        role.leave()
        return not is_free

    def begin(self) -> bool:
        """Begin a run; whether that was possible: none begins while one is under way. Raises OSError."""
        role = self._role()
        if not role.take():
            return False
        began_at = self._clock()
        self._keep(Diagnosis(began_at))
        self._tasks.start(self._run(role, began_at), "diagnosis")
        return True

    def last(self) -> Diagnosis | None:
        """The last run; None where there was none, or what is kept of it cannot be read."""
        try:
            return _parse(json.loads(self._file.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def _file(self) -> Path:
        return self._data / "diagnosis.json"

    def _role(self) -> ProcessRole:
        return ProcessRole(self._data / "diagnosis.lock")

    async def _run(self, role: ProcessRole, began_at: datetime) -> None:
        try:
            checks, problem = await self._examine()
            found = Diagnosis(began_at, self._clock(), checks, problem)
            await asyncio.to_thread(self._keep, found)
        except OSError as error:
            log.warning("diagnosis_failed", reason=str(error))
        finally:
            role.leave()

    async def _examine(self) -> tuple[Sequence[FoundCheck], str]:
        """What a run finds, and why it found nothing. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "GATEWAY_DATA": str(self._data.absolute())},
            limit=OUTPUT_LIMIT,
        )
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                written, _ = await process.communicate()
            return [_parse_check(one) for one in json.loads(written)], ""
        except TimeoutError:
            return (), f"it took longer than {LONGEST_SECONDS:.0f} s"
        except (ValueError, KeyError, TypeError):
            return (), "it ended without a result"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _keep(self, diagnosis: Diagnosis) -> None:
        checks = [{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in diagnosis.checks]
        ended_at = None if diagnosis.ended_at is None else diagnosis.ended_at.isoformat()
        document = {
            "began_at": diagnosis.began_at.isoformat(),
            "ended_at": ended_at,
            "checks": checks,
            "problem": diagnosis.problem,
        }
        files.replace(self._file, json.dumps(document).encode())


def _parse(document: Any) -> Diagnosis:
    """Raises ValueError, KeyError, TypeError."""
    ended_at = document["ended_at"]
    return Diagnosis(
        datetime.fromisoformat(document["began_at"]),
        None if ended_at is None else datetime.fromisoformat(ended_at),
        [_parse_check(one) for one in document["checks"]],
        str(document["problem"]),
    )


def _parse_check(document: Any) -> FoundCheck:
    """Raises KeyError, TypeError."""
    ok = document["ok"]
    return FoundCheck(
        str(document["name"]), None if ok is None else bool(ok), str(document["detail"]), str(document["remedy"])
    )
