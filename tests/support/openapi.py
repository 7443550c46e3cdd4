"""The gateway's OpenAPI document, as committed: `python -m tests.support.openapi` writes it."""

from __future__ import annotations

from pathlib import Path

from stream.gateway.openapi import document
from tests.support.asyncapi import dump

PATH = Path(__file__).parents[2] / "deploy" / "openapi.yaml"


def text() -> str:
    """The document as it is written."""
    return "# Made by `python -m tests.support.openapi` from the code; change that.\n" + dump(
        document()
    )


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
