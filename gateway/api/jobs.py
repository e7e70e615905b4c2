"""Jobs: the one whose token is sent, and those of a project. GitLab has no request that starts one; here it is the
counterpart of its list, and `cancel` ends a job as GitLab's does."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.api.account_documents import AccountDocuments
from gateway.api.errors import Forbidden, LoginNeeded, ResourceUnknown, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import offset_page, offset_window, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, NoParameters, PageShape, Shape, Text, is_id
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.directory.places import ProjectPlace
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.ci_variables import registry_host
from gateway.namespaces.credential_rules import JOB_LIFETIME
from gateway.namespaces.credentials import Job, PersonalToken
from gateway.namespaces.errors import CredentialInvalid, ExpiryInvalid, JobRefused
from gateway.namespaces.expiry import parse_expiry
from gateway.namespaces.role import Role
from gateway.services import Services

ALL, ONE = "/projects/{id}/jobs", "/projects/{id}/jobs/{job_id}"
JOB = "Job"


class JobListShape(PageShape):
    """Parameters of a list of jobs."""

    scope: Annotated[
        Literal["running"] | None, Blank, Field(description="`running`: only jobs that have not ended.")
    ] = None


class NewJobShape(Shape):
    """Parameters of a new job."""

    ref: Annotated[Text | None, Field(max_length=255, description="The branch or tag."), Blank] = None
    expires_at: Annotated[
        Text | None,
        Field(max_length=40, description="The end, within 30 days: a time, or how long from now, such as 30m."),
        Blank,
    ] = None


class Jobs:
    """Handlers of jobs, which are for developers and above."""

    def __init__(
        self,
        places: Places,
        services: Services,
        documents: AccountDocuments,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._places = places
        self._jobs = services.jobs
        self._clock = services.clock
        self._documents = documents
        self._audited = audited
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", "/job", self.show_own, NoParameters, "job", jobs=True, any_scope=True, answer="Job"),
            Route("GET", ALL, self.list_all, JobListShape, "jobs", answer="Jobs"),
            Route("POST", ALL, self.start, NewJobShape, "job", status=201, answer="NewJob"),
            Route("GET", ONE, self.show, NoParameters, "job", answer="Job"),
            Route("POST", f"{ONE}/cancel", self.cancel, NoParameters, "job", status=201, answer="Job"),
        ]

    async def show_own(self, call: Call[NoParameters]) -> Response:
        """Show the job whose token was sent."""
        job = call.principal.credential
        place = await self._places.project_of(job.project_id) if isinstance(job, Job) else None
        if not isinstance(job, Job) or place is None:
            raise LoginNeeded("the token that was sent is no job's", "send the token of a job as JOB-TOKEN")
        return one(await self._document(call, place, job))

    async def list_all(self, call: Call[JobListShape]) -> Response:
        """List the jobs of a project, the latest first; those that ended stay for a year."""
        place, wanted = await self._find(call, Action.KNOW), call.parameters
        window = offset_window(wanted, descending=True)
        part = await self._jobs.list_part(place.project.id, window, running=wanted.scope is not None)
        people = await self._jobs.people_of(part.rows)
        documents = [
            self._documents.job(job, place.project, people.get(job.user_id), call.principal) for job in part.rows
        ]
        return offset_page(call, self._options, part, documents)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one job of a project."""
        place = await self._find(call, Action.KNOW)
        return one(await self._document(call, place, await self._get(call, place)))

    async def start(self, call: Call[NewJobShape]) -> Response:
        """Start a job on behalf of the caller; its secrets are in the answer, and nowhere else."""
        place, wanted, user = await self._find(call, Action.KNOW), call.parameters, call.principal.user
        if user is None:
            raise Forbidden("the token belongs to no user")
        host = registry_host(f"{self._options.url.partition('://')[0]}://{self._options.registry}")
        try:
            ends = self._end_of(call)
            started = await self._jobs.start(place.project.id, user.id, wanted.ref, ends, host)
        except ExpiryInvalid as error:
            raise ValuesRefused({"expires_at": [str(error)]}) from error
        except CredentialInvalid as error:
            raise ValuesRefused({"ref": [str(error)]}) from error
        except JobRefused as error:
            raise Forbidden(str(error)) from error
        self._audited.started_job(call, place.project.path, started.job)
        document = self._documents.job(started.job, started.project, started.user, call.principal)
        return one({**document, "variables": dict(started.variables)}, 201)

    def _end_of(self, call: Call[NewJobShape]) -> datetime | None:
        """The end of a new job, which is not after that of the token that starts it; None for the default. Raises
        ExpiryInvalid."""
        now, text, token = self._clock(), call.parameters.expires_at, call.principal.credential
        ends = None if text is None else parse_expiry(text, now)
        latest = token.expires_at if isinstance(token, PersonalToken) else None
        if latest is None or (ends or now + JOB_LIFETIME) <= latest:
            return ends
        if ends is not None:
            raise ExpiryInvalid("is after the end of the token that was sent, which a job does not outlive")
        return latest

    async def cancel(self, call: Call[NoParameters]) -> Response:
        """End a job with its secrets: one's own, or any as a maintainer."""
        place = await self._find(call, Action.KNOW)
        job, user = await self._get(call, place), call.principal.user
        if user is None or job.user_id != user.id:
            await self._require(call, place, Role.MAINTAINER, "maintainers and above end the jobs of others")
        finished = await self._jobs.finish(job.id)
        if job.finished_at is None:
            self._audited.finished_job(call, place.project.path, job)
        return one(await self._document(call, place, finished), 201)

    async def _document(self, call: "Call[Any]", place: ProjectPlace, job: Job) -> dict[str, object]:
        people = await self._jobs.people_of([job])
        return self._documents.job(job, place.project, people.get(job.user_id), call.principal)

    async def _get(self, call: "Call[Any]", place: ProjectPlace) -> Job:
        """The job of an id, which is of a project itself. Raises ResourceUnknown."""
        text = call.path["job_id"]
        job = await self._jobs.find(int(text)) if is_id(text) else None
        if job is None or job.project_id != place.project.id:
            raise ResourceUnknown(JOB)
        return job

    async def _find(self, call: "Call[Any]", action: Action) -> ProjectPlace:
        place = await self._places.project(call.path["id"], call.principal, action)
        note_native_lookup(call.request.scope, "jobs", place.project.path)
        await self._require(call, place, Role.DEVELOPER, "developers and above see and start jobs")
        return place

    async def _require(self, call: "Call[Any]", place: ProjectPlace, needed: Role, rule: str) -> None:
        role = await self._places.role(call.principal, place.way)
        if role is None or role < needed:
            raise Forbidden(rule)
