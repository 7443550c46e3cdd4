"""The demo's switch of models: one worker after the other, whatever is asked meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from stream.cli.demo import bundles
from stream.config import Settings
from stream.core.bundle import Bundle
from stream.core.manifest import read_manifest
from stream.demo import sample, shop
from stream.demo.models import ModelSwitch, Serving
from stream.demo.worker import WorkerProcess
from stream.errors import BundleError, FreshetError

IDS = {name: read_manifest(folder).bundle_id for name, folder in sample.BUNDLES.items()}
MODEL_OF = {folder: name for name, folder in sample.BUNDLES.items()}
WITHIN_S = 20.0


class Stage:
    """Workers that are none, and what happened, in its order."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.may_be_ready = threading.Event()
        self.may_be_ready.set()
        self.switch = ModelSwitch(sample.BUNDLES, self._worker, self._prepare)
        self.between = self.switch.check  # a worker that is gone on purpose is no fault

    def wishes(self, model: str) -> bool:
        return self.switch._wanted == model

    def _worker(self, bundle: Path) -> WorkerProcess:
        return _Worker(self, MODEL_OF[bundle])

    def _prepare(self, bundle: Bundle) -> None:
        self.happened.append(f"items for {bundle.manifest.model}")
        self.between()


class _Worker(WorkerProcess):
    def __init__(self, stage: Stage, model: str) -> None:
        self._stage = stage
        self._model = model
        self._ended = False

    def __enter__(self) -> Self:
        self._stage.happened.append(f"start {self._model}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stage.happened.append(f"end {self._model}")
        self._ended = True

    def check(self) -> None:
        if self._ended:
            raise FreshetError(f"the worker of {self._model} ended")

    def await_ready(self) -> None:
        assert self._stage.may_be_ready.wait(WITHIN_S)
        self.check()


def in_thread(do: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


def until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WITHIN_S / 0.01)):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("not within the time")


def test_one_worker_ends_before_the_next_one_starts() -> None:
    stage = Stage()
    with stage.switch as switch:
        assert switch.now == Serving("mf", IDS["mf"], ready=False)
        switch.await_ready()
        assert switch.now == Serving("mf", IDS["mf"], ready=True)
        switch.switch("decay")
        assert switch.now == Serving("decay", IDS["decay"], ready=True)
        switch.switch("decay")  # serves already
        switch.check()
    assert stage.happened == [
        "start mf",
        *("end mf", "items for decay", "start decay"),
        "end decay",
    ]


@pytest.mark.parametrize("wishes", [("mf", "decay"), ("decay", "mf")], ids=" ".join)
def test_of_several_wishes_the_last_one_counts(wishes: tuple[str, str]) -> None:
    stage = Stage()
    with stage.switch as switch:
        switch.await_ready()
        stage.may_be_ready.clear()
        threads = [in_thread(lambda: switch.switch("decay"))]
        until(lambda: "start decay" in stage.happened)
        assert switch.now == Serving("decay", IDS["decay"], ready=False)
        for wish in wishes:
            threads.append(in_thread(partial(switch.switch, wish)))
            until(partial(stage.wishes, wish))
        threads[-1].join(0.2)  # all wait
        stage.may_be_ready.set()
        for thread in threads:
            thread.join(WITHIN_S)
        assert switch.now == Serving(wishes[-1], IDS[wishes[-1]], ready=True)
    assert stage.happened.count("start decay") == 1


def test_nobody_switches_before_the_first_worker_is_ready() -> None:
    stage = Stage()
    stage.may_be_ready.clear()

    def wait() -> None:
        stage.switch.await_ready()
        stage.happened.append("ready")

    with stage.switch as switch:
        waiting = in_thread(wait)
        until(switch._switching.locked)
        asked = in_thread(lambda: switch.switch("decay"))
        until(partial(stage.wishes, "decay"))
        asked.join(0.3)
        stage.may_be_ready.set()
        waiting.join(WITHIN_S)
        asked.join(WITHIN_S)
    assert stage.happened[:3] == ["start mf", "ready", "end mf"]


def test_a_worker_that_ends_by_itself_is_told() -> None:
    stage = Stage()
    with stage.switch as switch:
        switch.await_ready()
        assert isinstance(switch._worker, _Worker)
        switch._worker._ended = True
        with pytest.raises(FreshetError, match="of mf ended"):
            switch.check()


def test_a_switch_that_fails_is_told() -> None:
    stage = Stage()

    def fail() -> None:
        raise FreshetError("no broker")

    with stage.switch as switch:
        switch.await_ready()
        stage.between = fail
        switch.switch("decay")
        assert not switch.now.ready
        with pytest.raises(FreshetError, match="no broker"):
            switch.check()
        switch.switch("mf")  # the demo is about to end
        assert "start decay" not in stage.happened


def test_whoever_ends_the_demo_during_a_switch_leaves_no_worker() -> None:
    stage = Stage()
    with stage.switch as switch:
        switch.await_ready()
        stage.may_be_ready.clear()
        thread = in_thread(lambda: switch.switch("decay"))
        until(lambda: "start decay" in stage.happened)
    stage.may_be_ready.set()
    thread.join(WITHIN_S)
    assert stage.happened[-1] == "end decay"
    switch.switch("mf")
    assert stage.happened[-1] == "end decay"


def test_a_switch_starts_nothing_once_the_demo_ended() -> None:
    stage = Stage()
    with stage.switch as switch:
        switch.await_ready()
        stage.between = switch.close
        switch.switch("decay")
    assert stage.happened == ["start mf", "end mf", "items for decay"]


def test_a_bundle_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    assert bundles(Settings()) == sample.BUNDLES
    named = str(sample.BUNDLES["decay"])
    assert bundles(Settings(bundle=named)) == {"decay": sample.BUNDLES["decay"]}
    with pytest.raises(BundleError):
        bundles(Settings(bundle=str(tmp_path)))


def test_a_vector_of_one_model_takes_the_place_of_the_other_ones() -> None:
    sent = {
        name: {item.item_id for item in shop.with_vectors(shop.assortment(Bundle.load(folder)))}
        for name, folder in sample.BUNDLES.items()
    }
    assert sent["mf"] == sent["decay"]
    assert shop.coupon_of("Bags") in sent["mf"]
    # A record whose vector has another length would be a dead letter.
    assert len({read_manifest(folder).embedding_dim for folder in sample.BUNDLES.values()}) == 1
