"""Every setting: its name, default, limits and meaning, as types.

`stream.described` puts them into words. Where values come from is `stream.config`'s business.
"""

from stream.settings.whole import (
    CONFIG_VARIABLE,
    FIELDS,
    LISTS,
    NEVER_EMPTY,
    SECRETS,
    SECTIONS,
    TESTS_VARIABLE,
    Batch,
    Broker,
    Privacy,
    Security,
    Settings,
    State,
    Topics,
    variable,
)

__all__ = [
    "CONFIG_VARIABLE",
    "FIELDS",
    "LISTS",
    "NEVER_EMPTY",
    "SECRETS",
    "SECTIONS",
    "TESTS_VARIABLE",
    "Batch",
    "Broker",
    "Privacy",
    "Security",
    "Settings",
    "State",
    "Topics",
    "variable",
]
