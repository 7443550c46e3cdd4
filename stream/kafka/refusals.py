"""What a batch that was not acknowledged means. In: the producer's error. Out: ours, with words.

Knows nothing of states and of Faust.
"""

from __future__ import annotations

from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from stream.errors import BrokerError, FencedError, FreshetError, TopicError

FENCED = (ProducerFenced, InvalidProducerEpoch, OutOfOrderSequenceNumber)


def refusal(error: BaseException) -> FreshetError:
    """The error to end the process with: after a lost or refused batch none may follow."""
    if isinstance(error, FENCED):
        return FencedError(
            f"the broker refused a batch ({type(error).__name__}): another worker took the "
            f"partition over while this one was away. Its states are safe there"
        )
    if isinstance(error, MessageSizeTooLargeError):
        return TopicError(
            "the broker refused a batch as too large: a topic's max.message.bytes was lowered "
            "while the worker ran. The next start says which, and what to do; the events come again"
        )
    if isinstance(error, InvalidTimestampError):
        return BrokerError(
            "the broker refused a batch for its timestamp: this machine's clock is more than an "
            "hour (message.timestamp.after.max.ms) ahead of the broker's. Set the clocks; the "
            "events come again"
        )
    return BrokerError(f"a batch was not acknowledged: {error!r}")
