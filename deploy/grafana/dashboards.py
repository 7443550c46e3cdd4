"""Freshet's dashboards as JSON files in `json/`, which Grafana's provisioning reads.

    python -m deploy.grafana.dashboards

What is changed in Grafana's own editor is lost: change it here and run this. A test holds the files
to this code, and another one runs every query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.gateway import gateway
from deploy.grafana.kafka import kafka
from deploy.grafana.latency import latency
from deploy.grafana.model import model
from deploy.grafana.overview import overview
from deploy.grafana.quality import quality

FOLDER = Path(__file__).parent / "json"
DASHBOARDS: dict[str, Callable[[], build.Dashboard]] = {
    "overview": overview,
    "latency": latency,
    "quality": quality,
    "kafka": kafka,
    "model": model,
    "gateway": gateway,
}


def files() -> Iterator[tuple[Path, str]]:
    """Each dashboard's file and what stands in it."""
    for name, make in DASHBOARDS.items():
        text = JSONEncoder(sort_keys=True, indent=1).encode(make().build())
        yield FOLDER / f"{name}.json", text + "\n"


def main() -> None:
    """Write every dashboard's file."""
    for file, text in files():
        file.write_text(text, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
