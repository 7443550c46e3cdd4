"""Settings that change while a worker runs: its file is followed, and what changed taken over.

In: the settings file, looked at again and again. Out: lists by what stands in it, within a second;
or the reason why nothing of it was taken. What is outside of `[placements]` and `[weights]` stays
as it was at the start. Knows nothing of records and users.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct

from stream import metrics
from stream.core.weighing import Weighing
from stream.errors import BrokerError, FreshetError, SettingsError
from stream.kafka.sizes import lists_bytes
from stream.kafka.topics import require_topics
from stream.settings import FIELDS, SECRETS
from stream.tables import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.config import Settings
    from stream.core.engine import Engine

log = logging.getLogger(__name__)

# What stands in the file at two looks is taken: who writes it in place is not to be caught halfway.
LOOK_EVERY_S: Final = 0.2
ASK_AGAIN_EVERY_S: Final = 10.0  # when brokers had the last word
_AT_ONCE_S: Final = 0.005  # of making ready, before others have their turn
_LIVE: Final = "weights."  # settings outside of [placements] that change as well

_WHY: Final = {
    "state.ring": "stored states are laid out by it",
    "state.impressions": "stored states are laid out by it",
    "statistics.half_life_s": "stored counts of items have faded by it, and workers add theirs up",
    "statistics.recent_half_life_s": "stored counts of items have faded by it, and workers add "
    "theirs up",
    "bundle": "stored states are its model's",
    "group": "the stored states have its name",
    "topics.partitions": "stored states are where it says",
}


class SettingsFile(NamedTuple):
    """The file that a worker's settings came from.

    Attributes
    ----------
    load : the settings by what the file holds, else as they were read at the start, with the same
        flags; given None it reads the file, for the error that tells why that fails
    """

    path: Path
    load: Callable[[bytes | None], Settings]

    @classmethod
    def of(cls, path: Path | None, load: Callable[[bytes | None], Settings]) -> SettingsFile | None:
        """None where the settings come from no file."""
        return None if path is None else cls(path, load)


class LiveSettings:
    """Follows the settings file of a worker.

    Parameters
    ----------
    settings : those of the start
    file : None: there is none, and nothing ever changes
    engine : whose placements and weights change
    adopted : called when they did
    """

    def __init__(
        self,
        settings: Settings,
        file: SettingsFile | None,
        engine: Engine,
        adopted: Callable[[], None] = lambda: None,
    ) -> None:
        self._start = settings
        self._now = settings
        self._file = file
        self._engine = engine
        self._adopted = adopted
        self._fit_bytes = lists_bytes(settings)  # which the topic takes: the start has looked
        self._seen: object = self  # nothing yet
        self._judged: object = self
        self._refusal: tuple[object, str] | None = None
        self._ask_again_s = float("inf")
        metrics.set_settings_info(self._revision)
        metrics.SETTINGS_REFUSED.set(0)

    async def run(self) -> None:
        """Follow the file until the worker ends."""
        if self._file is None:
            log.info("live settings %s", self._revision)
            return
        log.info("live settings %s; following %s", self._revision, self._file.path)
        while True:
            await self.look(self._file)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, file: SettingsFile) -> None:
        """Look once; judge what stands in the file since the last look at least."""
        content = await asyncio.to_thread(_content, file.path)
        settled, self._seen = content == self._seen, content
        known = content == self._judged and time.monotonic() < self._ask_again_s
        if known or not settled:
            return
        self._judged, self._ask_again_s = content, float("inf")
        try:
            settings = await asyncio.to_thread(file.load, content)
            if content is None:  # it has come since, and may be half written
                self._judged = self
                return
            await self._take(settings, content)
        except BrokerError as error:
            self._ask_again_s = time.monotonic() + ASK_AGAIN_EVERY_S
            self._refuse(str(error))
        except FreshetError as error:
            self._refuse(str(error))
        except Exception as error:  # whatever it is, lists go on by the settings in force
            self._refuse(f"a fault of Freshet's own, {type(error).__name__}; please report it")
        else:
            self._accept()

    async def _take(self, settings: Settings, content: bytes) -> None:
        """Take placements and weights over.

        Raises
        ------
        SettingsError : more than those changed, or the model does not take the weights
        BrokerError : the topic of the lists would not take them
        """
        source = self._source(content)
        self._require_the_rest(settings, source)
        manifest = self._engine.model.bundle.manifest
        weighing = Weighing.of(manifest, settings.weights, source.origin)
        changed = _changes(self._now, settings)
        if not changed:
            return
        if lists_bytes(settings) > self._fit_bytes:
            await asyncio.to_thread(require_topics, settings)
            self._fit_bytes = lists_bytes(settings)
        change = self._engine.answers.lists.change_to(settings.placements)
        from_s = time.perf_counter()
        for _ in change.pieces(time.time_ns() // 1_000_000):
            if time.perf_counter() - from_s > _AT_ONCE_S:
                await asyncio.sleep(0)
                from_s = time.perf_counter()
        old = self._revision
        self._engine.adopt(change, weighing)
        self._now = settings
        self._adopted()
        metrics.set_settings_info(self._revision)
        log.info(
            "live settings %s instead of %s: %s",
            self._revision,
            old,
            ", ".join(changed),
        )

    def _source(self, content: bytes) -> Source:
        assert self._file is not None
        return Source(str(self._file.path), content.decode("utf-8", "replace"))

    def _require_the_rest(self, settings: Settings, source: Source) -> None:
        """Look whether all else is as it was at the start; secrets apart, which nobody may tell."""
        for path in FIELDS:
            was, found = _get(self._start, path), _get(settings, path)
            if path not in SECRETS and not path.startswith(_LIVE) and found != was:
                where = source.origin(path)
                why = _WHY.get(path, "only [placements] and [weights] change while a worker runs")
                raise SettingsError(
                    f"{where}: is {found!r}, and was {was!r} when this worker started ({why}): put "
                    "that back to have the others change now, or restart the workers."
                )

    def _refuse(self, why: str) -> None:
        refusal = (self._judged, why)
        if refusal == self._refusal:  # brokers were asked again
            return
        self._refusal = refusal
        metrics.SETTINGS_REFUSALS_TOTAL.inc()
        metrics.SETTINGS_REFUSED.set(1)
        log.error("nothing of the changed settings is taken, %s goes on: %s", self._revision, why)

    def _accept(self) -> None:
        if self._refusal is not None:
            self._refusal = None
            metrics.SETTINGS_REFUSED.set(0)
            log.info("the settings file holds what is in force, %s", self._revision)

    @property
    def _revision(self) -> str:
        return self._engine.answers.lists.revision


def _content(path: Path) -> bytes | None:
    """What the file holds; None where it cannot be read, which `load` has the words for."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _get(settings: Settings, path: str) -> Any:
    found: Any = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _changes(was: Settings, now: Settings) -> list[str]:
    """What became of each placement and of the weights, in words; empty: nothing changed."""
    before, after = was.placements, now.placements
    told = [f"{name} gone" for name in before if name not in after]
    for name, rules in after.items():
        if name not in before:
            told.append(f"{name} new")
            continue
        told += [f"{name}.{of}" for of in _differ(before[name], rules)]
    if not told and list(before) != list(after):
        told.append("another order of placements")
    return told + [f"weights.{of}" for of in _differ(was.weights, now.weights)]


def _differ(one: Struct, other: Struct) -> list[str]:
    """Names of the fields that are not the same in both."""
    return [of for of in one.__struct_fields__ if getattr(one, of) != getattr(other, of)]
