"""The embedded server: a collection of proxies and its admin API, inside a loop that already runs."""

from __future__ import annotations

from chaos.toxiproxy.admin import Admin
from chaos.toxiproxy.server import ProxyCollection
from fakes.server import Server, bind, port_of


class EmbeddedToxiproxy:
    """A Toxiproxy without a process of its own.

    Args:
        seed: same seed, same fates: toxicity, jitter and slices are drawn per proxy, connection number and direction.

    Attributes:
        collection: the proxies, for use without HTTP.
    """

    def __init__(self, seed: int) -> None:
        self.collection = ProxyCollection(seed)
        self.url = ""
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedToxiproxy {self.url or 'not started'} {self.collection!r}>"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Serve the admin API; `url` then tells where. Raises OSError when the address is taken."""
        listening = bind(host, port)
        server = Server(Admin(self.collection), [listening])
        try:
            await server.start()
        except BaseException:
            listening.close()
            raise
        self._server = server
        self.url = f"http://{host}:{port_of(listening)}"

    async def stop(self) -> None:
        """Close the admin API, every proxy and every connection; safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
        await self.collection.close()
