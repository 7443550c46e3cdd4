"""The storefront's server on a thread of its own. In: settings. Out: an address to open.

A gateway, with the page's routes beside its own, for this machine alone. Knows nothing of what the
page shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from stream.config import Settings
from stream.demo.figures import WorkerFigures
from stream.demo.storefront import Models, Traffic, add_storefront
from stream.errors import FreshetError
from stream.gateway.service import Service
from stream.kafka.reader import FETCH_WAIT_MS, HASTY_FETCH_WAIT_MS

STOP_WITHIN_S = 2.5  # of the 5 s that Ctrl-C may take


class StorefrontServer:
    """Serves from entering on; lists once they are read.

    Parameters
    ----------
    settings : their gateway's host, tokens and rates count for nothing here
    held : listens on 127.0.0.1 already
    catalogue : see `stream.demo.storefront.catalogue`
    worker_url : the worker's endpoints
    embedded : the broker is, which answers a waiting fetch late
    """

    def __init__(
        self,
        settings: Settings,
        held: socket.socket,
        catalogue: bytes,
        worker_url: str,
        traffic: Traffic,
        models: Models,
        *,
        embedded: bool,
    ) -> None:
        host, port = held.getsockname()
        own = type(settings.gateway)(host=host, port=port, rate=0)
        self._held = held
        self._settings = replace(settings, gateway=own)
        self._catalogue = catalogue
        self._worker_url = worker_url
        self._traffic = traffic
        self._models = models
        self._fetch_wait_ms = HASTY_FETCH_WAIT_MS if embedded else FETCH_WAIT_MS
        self._listens = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="storefront", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait()
        self.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_WITHIN_S)

    def check(self) -> None:
        """Raise what ended it, if it has ended."""
        if isinstance(self._error, FreshetError):
            raise self._error
        if self._error is not None:
            raise FreshetError(f"the storefront ended: {self._error!r}") from self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._listens.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        service = Service(self._settings, self._fetch_wait_ms, self._held)
        figures = WorkerFigures(self._worker_url)
        add_storefront(service.app, self._catalogue, figures, self._traffic, self._models)
        try:
            await service.start()
            self.url = service.url
            self._listens.set()
            await service.run_until(self._stopping)
        finally:
            await service.stop()
            await figures.close()
