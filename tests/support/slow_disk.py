"""An Apache Kafka whose disk can be made slow at run time.

    with SlowDiskKafka(folder / "kafka") as broker:
        broker.disk.delay_ms = 300      # each write to a file, from now on
        broker.disk.delay_ms = 0        # fast again, at once

A library that is preloaded into the broker (`slow_disk.c`, built by gcc) delays its writes to
files; network and memory stay as they are.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from tests.support.kafka import ApacheKafka

SOURCE = Path(__file__).with_suffix(".c")


def why_missing() -> str | None:
    """Why no disk can be made slow here; None when one can."""
    return None if shutil.which("gcc") else "gcc is not installed; it builds the slow disk"


class SlowDisk:
    """What one broker takes for its disk; at first it is not slow at all.

    Parameters
    ----------
    data : the broker's data folder; the library comes to lie beside it
    """

    def __init__(self, data: Path) -> None:
        data.parent.mkdir(parents=True, exist_ok=True)
        self._library = data.with_name(data.name + "-slow_disk.so")
        self._says = data.with_name(data.name + "-slow_disk.ms")
        self._says.write_bytes(bytes(4))
        self._delay = np.memmap(self._says, np.int32, "r+")
        command = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(self._library), str(SOURCE), "-ldl"], check=True)

    @property
    def delay_ms(self) -> int:
        """Milliseconds that each write to a file, and each sync, takes longer."""
        return int(self._delay[0])

    @delay_ms.setter
    def delay_ms(self, delay_ms: int) -> None:
        self._delay[0] = delay_ms

    def under(self, command: list[str]) -> list[str]:
        """`command` with this disk under it."""
        return ["env", f"LD_PRELOAD={self._library}", f"SLOW_DISK={self._says}", *command]


class SlowDiskKafka(ApacheKafka):
    """Apache Kafka on a slow disk."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, short_lived=True)
        self.disk = SlowDisk(data)

    def _prepare(self) -> list[str]:
        return self.disk.under(super()._prepare())  # formatted before, which is quick about it
