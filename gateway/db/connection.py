"""Connection: an open transaction, as rooms name it that hand it from query to query and write no SQL themselves."""

from sqlalchemy.ext.asyncio import AsyncConnection

Connection = AsyncConnection
