"""Faulty Docker Hub: its registry and its blob host are both behind fault proxies."""

from collections import Counter
from typing import Any

from tests.parts.hub import Hub
from tests.parts.registry import Registry

from .proxy import FaultProxy, fair
from .weather import ANSWERS, BODIES, Weather


class FaultyHub:
    """`front` is in front of the registry, `cdn` in front of the blob host; the bytes of every blob pass the latter."""

    def __init__(self, registry: Registry) -> None:
        self.hub = Hub(registry.url, registry.folder)
        self.hub.limit = None
        self.cdn = FaultProxy(int(self.hub.cdn_netloc.rpartition(":")[2]))
        self.front = FaultProxy(int(self.hub.netloc.rpartition(":")[2]), {self.hub.cdn_netloc: self.cdn.netloc})

    def settings(self) -> dict[str, Any]:
        return self.hub.settings(redirect_hosts=[self.cdn.netloc]) | {"url": self.front.url}

    def exposed_to(self, weather: Weather) -> None:
        self.front.weather, self.cdn.weather = weather.over(ANSWERS), weather.over(BODIES, ("GET",))

    def heal(self) -> None:
        """Opens both ports and ends all lies."""
        for proxy in (self.front, self.cdn):
            proxy.weather = fair
            proxy.honest()
            if proxy.refusing:
                proxy.start()

    def faults(self) -> Counter[str]:
        """Number of lies that were told, by content or tag."""
        return self.front.faults() + self.cdn.faults()

    def start(self) -> None:
        self.hub.start()
        self.cdn.start()
        self.front.start()

    def stop(self) -> None:
        self.front.stop()
        self.cdn.stop()
        self.hub.stop()

    def __enter__(self) -> "FaultyHub":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
