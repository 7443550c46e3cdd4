"""Every error that Freshet raises on purpose, as one tree.

    FreshetError                    exit code 1
    |-- UsageError                  exit code 2: the caller can mend it
    |   |-- SettingsError           a setting is missing, unknown or has a wrong value
    |   `-- TrainingError           a training ended before its time, or cannot go on
    |-- OutputError                 standard output cannot be written
    |   `-- ReaderGoneError         its reader closed it: exit code 141, without a word
    |-- RecordError                 one record cannot be used; it goes to the dead letters
    |-- BundleError                 a model bundle is damaged, wrong or too old
    |   `-- ProviderError           the execution provider asked for does not work here
    |-- BrokerError                 the broker does not answer, or refuses
    |   `-- TopicError              a topic is missing or has another shape than it must
    `-- StateError                  the changelog holds something that this version cannot read
        `-- FencedError             another worker owns the partition now

A message says what is wrong, where, and what to do about it. `stream.cli` prints it without a
traceback and ends with the exit code of the class. Two codes belong to no class: 130 for a command
that was interrupted, and 70 for a worker that ended itself because it could have written a wrong
state (whatever error was behind it): start it again, and look why when it comes back.
"""

from __future__ import annotations

from typing import Final

EXIT_FATAL: Final = 70  # EX_SOFTWARE: a supervisor should start the worker again
EXIT_INTERRUPTED: Final = 130
EXIT_READER_GONE: Final = 141  # as a shell says it of a command that SIGPIPE ended


class FreshetError(Exception):
    """Root of the tree."""

    exit_code = 1


class UsageError(FreshetError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is missing, unknown or has a wrong value."""


class TrainingError(UsageError):
    """A training ended before its time, or cannot go on from what is kept of it."""


class OutputError(FreshetError):
    """Standard output cannot be written: what was printed there is not whole."""


class ReaderGoneError(OutputError):
    """Who read standard output has closed it, as `head` does; a command ends by it in silence."""

    exit_code = EXIT_READER_GONE


class RecordError(FreshetError):
    """One record cannot be used.

    Attributes
    ----------
    reason : a slug of a small fixed set (`contracts.REASONS`), fit for a metric label
    field : the field at fault, or None when the record as a whole is
    """

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason if field is None else f"{reason} ({field})")
        self.reason = reason
        self.field = field


class BundleError(FreshetError):
    """A model bundle is damaged, wrong or too old. What a stranger put into it is escaped."""

    def __init__(self, message: str) -> None:
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        )


class ProviderError(BundleError):
    """The execution provider that was asked for does not work on this machine."""


class BrokerError(FreshetError):
    """The broker does not answer, or refuses."""


class TopicError(BrokerError):
    """A topic is missing or has another shape than it must."""


class StateError(FreshetError):
    """The changelog holds something that this version cannot read."""


class FencedError(StateError):
    """Another worker owns the partition now."""
