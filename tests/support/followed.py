"""An engine whose settings file is followed, a look at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client import REGISTRY

from stream.config import Settings, load_settings
from stream.core.bundle import Bundle
from stream.live import LiveSettings, SettingsFile
from tests.support.engine import Shop, lists

FIRST = """\
group = "shop"
[state]
ring = 10

[placements.home]
k = 10
"""
OTHER = FIRST.replace("k = 10", "k = 4")


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


class Worker:
    """An engine whose settings are followed, a look at a time."""

    def __init__(self, bundle: Bundle, path: Path, environ: dict[str, str]) -> None:
        self.path, self.environ = path, environ
        settings = load_settings(path, environ=environ)
        self.shop = Shop(bundle, weights=settings.weights, **settings.placements)
        self.model = self.shop.engine.model
        self.file = SettingsFile(path, self.load)
        self.live = LiveSettings(settings, self.file, self.shop.engine)
        self.refusals = metric("freshet_settings_refusals_total")

    def load(self, content: bytes | None) -> Settings:
        return load_settings(self.path, environ=self.environ, content=content)

    def look(self, times: int = 2) -> None:
        async def several() -> None:
            for _ in range(times):
                await self.live.look(self.file)

        asyncio.run(several())

    def put(self, text: str, looks: int = 2) -> None:
        self.path.write_text(text, encoding="utf-8")
        self.look(looks)

    @property
    def length(self) -> int:
        """Of the list that an event makes now; it names the settings in force."""
        (record,) = lists(self.shop.step({"item_id": "i7"}))
        assert record.settings == self.revision
        assert metric("freshet_settings_info", revision=str(record.settings)) == 1
        return len(record.lists["home"].items)

    @property
    def revision(self) -> str:
        """Of the settings in force."""
        return self.shop.engine.answers.lists.revision

    @property
    def refused(self) -> tuple[float, bool]:
        """How often since the start, and whether it is so now."""
        counted = metric("freshet_settings_refusals_total") or 0
        return counted - (self.refusals or 0), bool(metric("freshet_settings_refused"))


def begun(bundle: Bundle, folder: Path, text: str = FIRST, **environ: str) -> Worker:
    """One with this settings file."""
    path = folder / "freshet.toml"
    path.write_text(text, encoding="utf-8")
    return Worker(bundle, path, environ)
