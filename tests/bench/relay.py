"""Relay that makes an upstream far away: python -m tests.bench.relay PORT TARGET_PORT ROUND_TRIP_SECONDS

It delays bytes in both directions, in order and without a limit of bandwidth. A new connection costs one round trip,
as the handshake of TCP does, although the kernel has made it at once.
"""

import asyncio
import sys
import time
from contextlib import suppress

HOST = "127.0.0.1"
CHUNK = 256 * 1024
AHEAD = 1000
"""Chunks under way in one direction, more than any pull has."""

Sent = tuple[float, bytes]


async def relay(port: int, target: int, round_trip: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made_at = time.monotonic() + round_trip
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, target)
        with suppress(OSError):
            await asyncio.gather(
                carry(reader, upstream_writer, round_trip / 2, made_at),
                carry(upstream_reader, writer, round_trip / 2, made_at),
            )
        for end in (writer, upstream_writer):
            end.close()

    server = await asyncio.start_server(connected, HOST, port, limit=CHUNK)
    await server.serve_forever()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, made_at: float) -> None:
    """Carries one direction of a connection, whose other end's kernel has it at `made_at`."""
    under_way: asyncio.Queue[Sent] = asyncio.Queue(AHEAD)
    arriving = asyncio.create_task(arrive(under_way, writer))
    try:
        while True:
            chunk = await reader.read(CHUNK)
            await under_way.put((max(time.monotonic(), made_at) + delay, chunk))
            if not chunk:
                break
        await arriving
    finally:
        arriving.cancel()


async def arrive(under_way: "asyncio.Queue[Sent]", writer: asyncio.StreamWriter) -> None:
    while True:
        due, chunk = await under_way.get()
        if (left := due - time.monotonic()) > 0:
            await asyncio.sleep(left)
        if not chunk:
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()
            return
        writer.write(chunk)


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
