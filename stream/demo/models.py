"""The models that the demo's worker can serve, and their switch. In: bundles. Out: a worker.

A worker serves the bundle that it began with, so a switch ends it and starts another one. Events
wait on their topics meanwhile, and a user's state is rebuilt from its ring by the new model. Knows
nothing of pages and lists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from stream.core.bundle import Bundle
from stream.core.manifest import read_manifest
from stream.demo.worker import WorkerProcess


class Serving(Struct, frozen=True):
    """What the worker serves, or is starting with.

    Attributes
    ----------
    model : its name
    ready : the worker takes events and requests
    """

    model: str
    bundle_id: str
    ready: bool


class ModelSwitch:
    """A worker, and the model that it serves; entering it starts one with the first.

    Parameters
    ----------
    bundles : folder by name of the model
    worker : of a bundle's folder, not started yet; always at the same endpoints
    prepare : called between two workers, with the bundle of the next one

    Raises
    ------
    BundleError : a folder holds no bundle
    """

    def __init__(
        self,
        bundles: Mapping[str, Path],
        worker: Callable[[Path], WorkerProcess],
        prepare: Callable[[Bundle], None],
    ) -> None:
        self._bundles = dict(bundles)
        self._ids = {name: read_manifest(folder).bundle_id for name, folder in bundles.items()}
        self._new_worker = worker
        self._prepare = prepare
        self._model = self._wanted = next(iter(self._bundles))
        self._worker: WorkerProcess | None = None  # None: between two, or closed
        self._ready = self._closed = False
        self._error: Exception | None = None
        self._lock = threading.Lock()  # of what is above; held for moments
        self._switching = threading.Lock()  # held until a worker is ready

    def __enter__(self) -> Self:
        self._start(self._model)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, and a switch under way; none starts any more."""
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.__exit__(None, None, None)

    @property
    def models(self) -> Sequence[str]:
        """Their names."""
        return list(self._bundles)

    @property
    def now(self) -> Serving:
        with self._lock:
            return Serving(self._model, self._ids[self._model], self._ready)

    def check(self) -> None:
        """Raise what ended the worker, when it was no switch, or what went wrong at one."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._worker is not None:
                self._worker.check()

    def await_ready(self) -> None:
        """Wait until the worker that entering started serves.

        Raises
        ------
        FreshetError : it ended, or takes too long
        """
        with self._switching:
            self._await_ready()

    def switch(self, model: str) -> None:
        """Serve this model; returns when it does, or when `check` raises why not.

        Of several calls at once the last one counts.

        Parameters
        ----------
        model : one of `models`
        """
        self._wanted = model
        with self._switching:
            if self._wanted == self._model or self._error is not None:
                return
            try:
                self._replace(self._wanted)
            except Exception as error:
                self._error = error

    def _replace(self, model: str) -> None:
        bundle = Bundle.load(self._bundles[model])
        with self._lock:
            if self._closed:
                return
            worker, self._worker = self._worker, None
            self._model, self._ready = model, False
        if worker is not None:
            worker.__exit__(None, None, None)
        self._prepare(bundle)
        self._start(model)
        self._await_ready()

    def _start(self, model: str) -> None:
        with self._lock:
            if not self._closed:
                self._worker = self._new_worker(self._bundles[model]).__enter__()

    def _await_ready(self) -> None:
        worker = self._worker
        if worker is not None:
            worker.await_ready()
            with self._lock:
                self._ready = True
