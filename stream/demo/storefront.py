"""The storefront: its page, and what that asks of the demo. In: items, figures. Out: routes.

The page reads lists and sends events by the gateway's routes, on the same origin. Those below
`/demo/` are the demo's own: the catalogue, what the worker counts, simulated shoppers on and off,
which model serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from stream.contracts import Item
from stream.demo.figures import Figures
from stream.demo.models import Serving
from stream.demo.shop import coupon_of
from stream.listening import answer, asked_host, is_loopback

PAGE: Final = Path(__file__).parent / "page"
_HEADERS: Final = {
    # Nothing from elsewhere, nothing inline: what stands in a title stays a title.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_JSON: Final = "application/json"


class Traffic(Protocol):
    """Simulated shoppers."""

    @property
    def running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Models(Protocol):
    """What the worker can serve."""

    @property
    def models(self) -> Sequence[str]: ...
    @property
    def now(self) -> Serving: ...
    def switch(self, model: str) -> None: ...


class _Switch(Struct):
    on: bool


class _Wanted(Struct):
    model: str


_Asked = TypeVar("_Asked", _Switch, _Wanted)


def catalogue(
    items: Sequence[Item],
    placements: Sequence[str],
    shoppers: Sequence[str],
    models: Sequence[str],
) -> bytes:
    """What the page knows from its start, as JSON: items without their vectors, categories, names.

    Parameters
    ----------
    placements : names of the worker's
    shoppers : user ids of those who replay the sample's baskets
    models : names of what the worker can serve
    """
    told = [msgspec.structs.replace(item, embedding=None) for item in items]
    names = sorted({item.category for item in items if item.kind == "coupon" and item.category})
    categories = [{"name": name, "coupon": coupon_of(name)} for name in names]
    return msgspec.json.encode(
        {
            "items": told,
            "categories": categories,
            "placements": placements,
            "shoppers": shoppers,
            "models": models,
        }
    )


def add_storefront(
    app: web.Application,
    catalogue: bytes,
    figures: Callable[[], Awaitable[Figures]],
    traffic: Traffic,
    models: Models,
) -> None:
    """Add the page's routes to an application that has the gateway's.

    Parameters
    ----------
    catalogue : see `catalogue`
    figures : what the worker counts now
    """
    routes = _Routes(catalogue, figures, traffic, models)
    add = app.router
    add.add_get("/", routes.index)
    add.add_static("/page/", PAGE)
    add.add_get("/demo/catalogue", routes.catalogue)
    add.add_get("/demo/stats", routes.stats)
    add.add_post("/demo/traffic", routes.let_in)
    add.add_post("/demo/model", routes.serve)
    app.on_response_prepare.append(_harden)
    app.on_cleanup.append(routes.close)


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    if request.path == "/" or request.path.startswith(("/page/", "/demo/")):
        response.headers.update(_HEADERS)


class _Wishes:
    """Fulfils wishes, one after the other; of several at once the last one counts.

    On a thread of its own: wishes take seconds, and the loop's own threads read the page's files.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "wishes")
        self._last: asyncio.Future[None] | None = None

    async def fulfil(self, wish: Callable[[], None]) -> None:
        """Returns once it is fulfilled, or overtaken by another one."""
        if self._last is not None:
            self._last.cancel()  # one that has begun goes on, but nobody waits for it
        self._last = mine = asyncio.get_running_loop().run_in_executor(self._thread, wish)
        await asyncio.wait([mine])
        if not mine.cancelled():
            mine.result()

    async def close(self) -> None:
        """Begin no other one, and wait for the one that has begun."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)


class _Routes:
    def __init__(
        self,
        catalogue: bytes,
        figures: Callable[[], Awaitable[Figures]],
        traffic: Traffic,
        models: Models,
    ) -> None:
        self._catalogue = catalogue
        self._figures = figures
        self._traffic = traffic
        self._models = models
        self._traffic_wishes, self._model_wishes = _Wishes(), _Wishes()

    async def close(self, app: web.Application) -> None:
        await asyncio.gather(self._traffic_wishes.close(), self._model_wishes.close())

    async def index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def catalogue(self, request: web.Request) -> web.Response:
        response = answer(self._catalogue)
        response.enable_compression()
        return response

    async def stats(self, request: web.Request) -> web.Response:
        found = await self._figures()
        told: dict[str, Any] = msgspec.structs.asdict(found)
        return answer(told | {"traffic": self._traffic.running, "serving": self._models.now})

    async def let_in(self, request: web.Request) -> web.Response:
        """Simulated shoppers on or off; answers once they are, or once another one wishes."""
        wanted = await _asked(request, _Switch, 'send {"on": true} or {"on": false}')
        if isinstance(wanted, web.Response):
            return wanted
        await self._traffic_wishes.fulfil(self._traffic.start if wanted.on else self._traffic.stop)
        return answer({"traffic": self._traffic.running})

    async def serve(self, request: web.Request) -> web.Response:
        """Let the worker serve a model; answers once it does, or once another one is wished."""
        names = self._models.models
        cure = f'send {{"model": NAME}}, NAME being one of {", ".join(names)}'
        wanted = await _asked(request, _Wanted, cure)
        if isinstance(wanted, web.Response):
            return wanted
        if wanted.model not in names:
            return _refused(400, cure)
        await self._model_wishes.fulfil(partial(self._models.switch, wanted.model))
        return answer({"serving": self._models.now})


async def _asked(request: web.Request, kind: type[_Asked], cure: str) -> _Asked | web.Response:
    """What a page of this machine posts, or the refusal."""
    if not is_loopback(asked_host(request.host)) or request.content_type != _JSON:
        return _refused(403, "only the demo's own page may switch this")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _refused(400, cure)


def _refused(status: int, message: str) -> web.Response:
    return answer({"error": "refused", "message": message}, status)
