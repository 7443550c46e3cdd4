"""An Apache Kafka whose disk can be made slow at run time.

    with SlowDiskKafka(folder / "kafka") as broker:
        broker.disk_delay_ms = 300      # each write to a file, from now on
        broker.disk_delay_ms = 0        # fast again, at once

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


class SlowDiskKafka(ApacheKafka):
    """Apache Kafka with a disk of adjustable slowness; at first it is not slow at all."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, short_lived=True)
        data.parent.mkdir(parents=True, exist_ok=True)
        self._library = data.with_name(data.name + "-slow_disk.so")
        self._says = data.with_name(data.name + "-slow_disk.ms")
        self._says.write_bytes(bytes(4))
        self._delay = np.memmap(self._says, np.int32, "r+")
        command = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(self._library), str(SOURCE), "-ldl"], check=True)

    @property
    def disk_delay_ms(self) -> int:
        """Milliseconds that each write to a file, and each sync, takes longer."""
        return int(self._delay[0])

    @disk_delay_ms.setter
    def disk_delay_ms(self, delay_ms: int) -> None:
        self._delay[0] = delay_ms

    def _prepare(self) -> list[str]:
        command = super()._prepare()  # formats the disk, which is quick about it
        return ["env", f"LD_PRELOAD={self._library}", f"SLOW_DISK={self._says}", *command]
