"""PushedDocuments: room for the bodies of pushed manifests, and turns to parse and store the large ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request

from cache.oci.errors import Busy, ManifestInvalid
from cache.oci.manifest import SIZE_LIMIT
from cache.runtime.fair_queue import Requester
from cache.runtime.turns import NoTurn, Turns
from gateway.auth.principal import Principal
from gateway.auth.requester import requester_of
from gateway.http.bodies import read_whole

BODY_SECONDS = 60
"""Seconds in which the body of a manifest must arrive: 4 MiB then need 70 KB/s."""

FREE = 32 * 1024
"""Bytes that a push holds without a place: about as many as its connection costs. An image of 127 layers has 20 KiB."""

PLACES = 12
"""Places for bodies of up to 4 MiB each, of which one principal gets at most three quarters."""

SPARE_PLACES = 4
"""Further places, for people without one. So all large bodies of a process have at most 64 MiB."""

STORED_AT_ONCE, SPARE_STORED = 1, 1
"""Large manifests that are parsed and stored at a time, and further ones of people without one."""

WAIT = 10.0
"""Seconds that a push waits for a place, and for its turn."""


class PushedDocuments:
    """Bodies of pushed manifests, which large ones wait for, fairly by people. Belongs to the event loop.

    A large manifest of 10,000 references takes as long as hundreds of others, also if it is refused. So one is parsed
    and stored at a time, and another one of somebody else.
    """

    def __init__(self) -> None:
        self._room = Turns(PLACES, SPARE_PLACES, WAIT)
        self._work = Turns(STORED_AT_ONCE, SPARE_STORED, WAIT)

    @asynccontextmanager
    async def received(self, request: Request, principal: Principal) -> AsyncIterator[bytes]:
        """Read the body of a request, which is parsed and stored within the block.

        Raises Busy, TooLarge, UploadInvalid, ManifestInvalid where it does not arrive in time.
        """
        who = requester_of(principal)
        async with AsyncExitStack() as held:
            has_place = False

            async def make_room(size: int) -> None:
                nonlocal has_place
                if size > FREE and not has_place:
                    await _enter(held, self._room, who, "the server reads too many large manifests: push it again")
                    has_place = True

            try:
                async with asyncio.timeout(BODY_SECONDS):
                    raw = await read_whole(request, SIZE_LIMIT, "a manifest", make_room)
            except TimeoutError as error:
                raise ManifestInvalid(f"the manifest did not arrive within {BODY_SECONDS} s: push it again") from error
            if len(raw) > FREE:
                await _enter(held, self._work, who, "the server stores too many large manifests: push it again")
            yield raw


async def _enter(held: AsyncExitStack, turns: Turns, who: Requester, refusal: str) -> None:
    try:
        await held.enter_async_context(turns.turn(who))
    except NoTurn as error:
        raise Busy(refusal) from error
