"""BodyBuffers: the buffers into which request bodies are read, used again, and bounded for all connections together."""

BUFFER = 1024 * 1024
SMALL_BUFFER = 64 * 1024
LARGE_BUFFERS = 64
"""Large buffers of a process that are in use at once; who takes one beyond them is given a small one."""
KEPT = 16
"""Large buffers that are kept while nobody uses them."""


class BodyBuffers:
    """The buffers of a process. A new buffer costs 0.1 ms, for its pages have to be mapped and cleared."""

    def __init__(self, large: int = LARGE_BUFFERS) -> None:
        """`large`: number of large buffers in use at once."""
        self._large = large
        self._free: list[bytearray] = []
        self.taken = 0

    def take(self) -> bytearray:
        """Get a buffer, which comes back by `give_back` or `forget`; its content is undefined."""
        if self.taken >= self._large:
            return bytearray(SMALL_BUFFER)
        self.taken += 1
        return self._free.pop() if self._free else bytearray(BUFFER)

    def give_back(self, buffer: bytearray) -> None:
        """Take a buffer back that nobody uses any more."""
        if len(buffer) == BUFFER:
            self.taken -= 1
            if len(self._free) < KEPT:
                self._free.append(buffer)

    def forget(self, buffer: bytearray) -> None:
        """Do without a buffer that a thread may still use."""
        if len(buffer) == BUFFER:
            self.taken -= 1
