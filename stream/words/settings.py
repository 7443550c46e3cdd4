"""The table `[words]` of the settings: which language reasons are told in, and who tells them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from stream.sections import Section, Text


class Wording(Section, frozen=True):
    """Reasons in words."""

    language: Annotated[
        Literal["de", "en", "es", "fr"], Meta(description="language of reasons in words")
    ] = "en"
    file: Annotated[
        Text | None,
        Meta(description="TOML file of templates, each in the place of the language's own"),
    ] = None
    written_to: Annotated[
        Literal["nothing", "answers", "lists"],
        Meta(
            description="where a worker puts words beside codes; lists: into answers too. With "
            "nothing it keeps no titles, and whoever reads its records finds the words"
        ),
    ] = "answers"
