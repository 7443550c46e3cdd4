"""The contracts with everything outside: topics' records, their codec, their partitioner.

In: bytes from a topic. Out: columns and structs, or the reason why not; and bytes again. Knows
nothing of settings, models or brokers.
"""

from stream.contracts.codec import (
    Kind,
    Rejection,
    dead_letter_headers,
    decode_events,
    decode_item,
    decode_recommendation,
    decode_record,
    encode_record,
)
from stream.contracts.diagnosis import REASONS
from stream.contracts.events import Events
from stream.contracts.partitioner import murmur2, partition_of, partitions_of
from stream.contracts.records import (
    CLICK_TYPES,
    EVENT_TYPES,
    ITEM_KINDS,
    MAX_AHEAD_MS,
    MAX_ID_BYTES,
    MAX_VALUE_BYTES,
    MIN_EVENT_TIME_MS,
    PURCHASE_TYPES,
    Answer,
    Cause,
    Click,
    Erasure,
    EventType,
    Item,
    ListedItem,
    Purchase,
    RankedList,
    Reason,
    Receipt,
    Recommendation,
    Request,
    event_hash,
    item_hash,
)

__all__ = [
    "CLICK_TYPES",
    "EVENT_TYPES",
    "ITEM_KINDS",
    "MAX_AHEAD_MS",
    "MAX_ID_BYTES",
    "MAX_VALUE_BYTES",
    "MIN_EVENT_TIME_MS",
    "PURCHASE_TYPES",
    "REASONS",
    "Answer",
    "Cause",
    "Click",
    "Erasure",
    "EventType",
    "Events",
    "Item",
    "Kind",
    "ListedItem",
    "Purchase",
    "RankedList",
    "Reason",
    "Receipt",
    "Recommendation",
    "Rejection",
    "Request",
    "dead_letter_headers",
    "decode_events",
    "decode_item",
    "decode_recommendation",
    "decode_record",
    "encode_record",
    "event_hash",
    "item_hash",
    "murmur2",
    "partition_of",
    "partitions_of",
]
