"""The broker of a storm: one behind a proxy, with a disk that can be made slow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.chaos.schedule import DISK
from tests.support.proxy import ProxiedKafka
from tests.support.slow_disk import SlowDisk, why_missing


class StormKafka(ProxiedKafka):
    """Apache Kafka that never compacts: the checker needs all that was written.

    Attributes
    ----------
    disk : None where none can be made slow
    """

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.disk = None if why_missing() else SlowDisk(data)

    def _configuration(self) -> str:
        return super()._configuration() + "\nlog.cleaner.enable=false\n"

    def _prepare(self) -> list[str]:
        command = super()._prepare()
        return command if self.disk is None else self.disk.under(command)

    def calm(self) -> None:
        """End whatever is wrong with it."""
        if self.disk is not None:
            self.disk.delay_ms = 0
        self.proxy.forward()
        if self.pid is None:
            self.start()


def possible(kinds: Sequence[str]) -> tuple[str, ...]:
    """Those of the kinds of fault that can happen on this machine."""
    return tuple(kind for kind in kinds if kind not in DISK or not why_missing())
