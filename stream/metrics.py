"""Every metric of the worker, declared once; `stream.http` serves them.

In: observations, from every room. Out: series named `freshet_*` in base units (seconds, bytes,
`_total`). No label ever holds a user or an item, so that the number of series stays bounded.
"""

from __future__ import annotations

from typing import Final

from stream.declared import (
    DESCRIBED,
    GATEWAY,
    Described,
    bulk_counter,
    bulk_histogram,
    counter,
    gauge,
    histogram,
)

# Dense from 1 to 100 ms, where the engine's stages and its latency lie.
# fmt: off
_STAGE_BUCKETS: Final = (
    0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03,
    0.04, 0.06, 0.08, 0.1, 0.25, 1.0,
)
_LATENCY_BUCKETS: Final = (
    0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05,
    0.07, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0,
)
_SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_ARM: Final = ("placement", "variant")
_RECOVERY_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
# fmt: on

EVENTS_TOTAL: Final = counter("freshet_events_total", "Events folded into a user's state.", "topic")
EVENTS_SKIPPED_TOTAL: Final = counter(
    "freshet_events_skipped_total",
    "Events not folded: already applied before a restart, a repeated event_id, or older than the "
    "erasure of their user (forgotten).",
    "topic",
    "reason",
)
USERS_LEFT_TOTAL: Final = counter(
    "freshet_users_left_total",
    "Users whose states were removed: inactive for too long (expired), the least recently active "
    "beyond the limit (evicted), or forgotten on request (erased).",
    "reason",
)
UNKNOWN_ITEM_EVENTS_TOTAL: Final = counter(
    "freshet_unknown_item_events_total",
    "Events for an item that neither the catalogue nor the model knows.",
)
DEAD_LETTERS_TOTAL: Final = counter(
    "freshet_dead_letters_total", "Records that could not be used, by reason.", "topic", "reason"
)
MISROUTED_RECORDS_TOTAL: Final = counter(
    "freshet_misrouted_records_total",
    "Records in another partition than their key's: the producer does not use murmur2.",
    "topic",
)
REFUSED_STATES_TOTAL: Final = counter(
    "freshet_refused_states_total",
    "States that came from the model not finite: their users keep the old ones.",
)
LISTS_TOTAL: Final = counter("freshet_lists_total", "Lists published.", *_ARM)
UNCHANGED_RECORDS_TOTAL: Final = counter(
    "freshet_unchanged_records_total",
    "Records of users that were not published, since their lists show the same as those before.",
)
BATCH_EVENTS: Final = histogram(
    "freshet_batch_events",
    "Records in a micro-batch, of all its partitions, dead letters too.",
    buckets=_SIZE_BUCKETS,
)
STAGE_SECONDS: Final = histogram(
    "freshet_stage_seconds",
    "Time in a stage: of a micro-batch in decode, fold, score, policy and answer; of its batch of "
    "each partition in poll (from the newest record's timestamp to the step) and publish (from the "
    "end of the step until all is acknowledged).",
    "stage",
    buckets=_STAGE_BUCKETS,
)
EVENT_TO_LIST_SECONDS: Final = bulk_histogram(
    "freshet_event_to_list_seconds",
    "Time from a record's timestamp to the acknowledgement of its list, or of its dead letter.",
    _LATENCY_BUCKETS,
)
ANSWERS_TOTAL: Final = counter(
    "freshet_answers_total",
    "Requests answered, by type; status says how: answered, late, unknown_item, unavailable.",
    "type",
    "status",
)
REQUEST_TO_ANSWER_SECONDS: Final = bulk_histogram(
    "freshet_request_to_answer_seconds",
    "Time from a request's timestamp to the acknowledgement of its answer, or of its dead letter.",
    _LATENCY_BUCKETS,
)
CONSUMER_LAG: Final = gauge(
    "freshet_consumer_lag", "Records of a source partition not yet processed.", "topic", "partition"
)
CONSUMER_POSITION: Final = gauge(
    "freshet_consumer_position",
    "Offset of the oldest record of a source partition that is not yet processed.",
    "topic",
    "partition",
)
STATE_USERS: Final = gauge("freshet_state_users", "Users with a state.", "partition")
STATE_BYTES: Final = gauge(
    "freshet_state_bytes", "Memory of the users' states and keys.", "partition"
)
CHANGELOG_BYTES_TOTAL: Final = counter(
    "freshet_changelog_bytes_total", "Whole record batches written to the changelog."
)
UNACKNOWLEDGED_SECONDS: Final = gauge(
    "freshet_unacknowledged_seconds",
    "For how long the oldest batch of states, lists and answers has waited for the brokers' "
    "acknowledgement; 0 where none waits. What they refuse ends the worker at once.",
)
# Of `core.quality`. An event that is looked up is a view, click or purchase that was folded, on an
# item of a kind that the placement lists, of a user whose list from before the micro-batch is
# remembered and not empty; late events, older than what the list reflects, are left out.
QUALITY_PLACES_TOTAL: Final = bulk_counter(
    "freshet_quality_places_total",
    "Places of the lists made, the first ones of each that count as shown (quality.places).",
    *_ARM,
    "explored",
)
QUALITY_OUTCOMES_TOTAL: Final = bulk_counter(
    "freshet_quality_outcomes_total",
    "Views, clicks and purchases looked up in the list that their user had before them: the hit "
    "rate is hits over these. Each makes its list count as shown once.",
    *_ARM,
    "event",
)
QUALITY_HITS_TOTAL: Final = bulk_counter(
    "freshet_quality_hits_total",
    "Those of them whose item stood on that list, by whether its place was explored.",
    *_ARM,
    "event",
    "explored",
)
QUALITY_RECIPROCAL_RANK_TOTAL: Final = bulk_counter(
    "freshet_quality_reciprocal_rank_total",
    "Sum of 1 / place of these hits: over outcomes, the mean reciprocal rank, of which explored "
    "places and the others bring a part each.",
    *_ARM,
    "event",
    "explored",
)
QUALITY_EXPECTED_TOTAL: Final = bulk_counter(
    "freshet_quality_expected_total",
    "Hits that the lists promised: sum of the scores of all places shown, once for each event "
    "looked up. A list whose user does nothing more is in none of it. Hits over this are 1 where "
    "scores are probabilities of the next view, click or purchase.",
    *_ARM,
    "explored",
)
QUALITY_SHOWN_TOTAL: Final = bulk_counter(
    "freshet_quality_shown_total",
    "Places shown, once for each event looked up, by score: probability is the upper bound of a "
    "bucket, which holds what is above the bound before it.",
    *_ARM,
    "explored",
    "probability",
)
QUALITY_CLICKED_TOTAL: Final = bulk_counter(
    "freshet_quality_clicked_total",
    "Those of the places shown whose item the event was about.",
    *_ARM,
    "explored",
    "probability",
)
QUALITY_IMPRESSIONS_TOTAL: Final = bulk_counter(
    "freshet_quality_impressions_total",
    "Impressions whose event names the list, or else the placement of a list that is remembered.",
    *_ARM,
)
QUALITY_CLICKTHROUGHS_TOTAL: Final = bulk_counter(
    "freshet_quality_clickthroughs_total",
    "Views and clicks whose event names either in the same way: over impressions, the "
    "click-through rate.",
    *_ARM,
)
QUALITY_COVERAGE_RATIO: Final = gauge(
    "freshet_quality_coverage_ratio",
    "Share of the items that a placement may list which this worker did list in the last hour.",
    "placement",
)
MODEL_INFO: Final = gauge(
    "freshet_model_info",
    "1 for the bundle that serves, on which provider, and which one was wanted: the one that is "
    "set; of auto, cuda where NVIDIA's driver is installed.",
    "bundle",
    "model",
    "provider",
    "wanted",
)
SETTINGS_INFO: Final = gauge(
    "freshet_settings_info", "1 for the revision of the live settings in force.", "revision"
)
SETTINGS_REFUSALS_TOTAL: Final = counter(
    "freshet_settings_refusals_total",
    "Changed settings files that were refused as a whole; the log says why.",
)
SETTINGS_REFUSED: Final = gauge(
    "freshet_settings_refused",
    "1 while the settings file holds what was refused: other settings are in force.",
)
CATALOGUE_ITEMS: Final = gauge("freshet_catalogue_items", "Items in the catalogue.", "kind")
COUNTED_ITEMS: Final = gauge(
    "freshet_counted_items",
    "Items, and items in contexts, for whose counts of all workers there is a place in memory. One "
    "with less than a sixteenth of an event left keeps it until places run short.",
)
IMPRESSIONS_COVERAGE_RATIO: Final = gauge(
    "freshet_impressions_coverage_ratio",
    "Share of a kind's items that may be listed which were shown of late, to anybody: a sixteenth "
    "of an impression at least is left in the counts of all workers. Each worker tells the same.",
    "kind",
)
TRENDING_RECORDS_TOTAL: Final = counter(
    "freshet_trending_records_total", "Records published of what trends, those taken back too."
)
RECOVERY_PROGRESS_RATIO: Final = gauge(
    "freshet_recovery_progress_ratio", "Part of the changelog replayed, 0 to 1.", "partition"
)
RECOVERY_SECONDS: Final = histogram(
    "freshet_recovery_seconds",
    "Time from the assignment of partitions until they are served.",
    buckets=_RECOVERY_BUCKETS,
)
REBALANCES_TOTAL: Final = counter("freshet_rebalances_total", "Rebalances of the group.")
READY: Final = gauge(
    "freshet_ready",
    "1 when model and catalogue are loaded, its states recovered and the brokers there.",
)


GATEWAY_REQUESTS_TOTAL: Final = counter(
    "freshet_gateway_requests_total",
    "Requests that the gateway answered, by route and status.",
    *("route", "status"),
    registry=GATEWAY,
)
GATEWAY_REQUEST_SECONDS: Final = histogram(
    "freshet_gateway_request_seconds",
    "Time from a request's head to its answer, but for streams.",
    "route",
    buckets=(*_STAGE_BUCKETS, 5.0, 10.0),
    registry=GATEWAY,
)
GATEWAY_REFUSED_TOTAL: Final = counter(
    "freshet_gateway_refused_total",
    "Requests that the gateway refused, by reason: the `error` of their answers.",
    "reason",
    registry=GATEWAY,
)
GATEWAY_USERS: Final = gauge(
    "freshet_gateway_users", "Users whose lists the gateway holds.", registry=GATEWAY
)
GATEWAY_STREAMS: Final = gauge(
    "freshet_gateway_streams", "Streams of lists that are open.", registry=GATEWAY
)
GATEWAY_READY: Final = gauge(
    "freshet_gateway_ready",
    "1 when the gateway has read all lists and the brokers are there.",
    registry=GATEWAY,
)


def set_model_info(bundle: str, model: str, provider: str, wanted: str) -> None:
    """Show `bundle` as the one that serves, and no other."""
    MODEL_INFO.clear()
    MODEL_INFO.labels(bundle=bundle, model=model, provider=provider, wanted=wanted).set(1)


def set_progress(topic: str, partition: int, position: int, lag: int) -> None:
    """Show how far a source partition was processed, and how many records wait behind that."""
    CONSUMER_POSITION.labels(topic, partition).set(position)
    CONSUMER_LAG.labels(topic, partition).set(lag)


def set_settings_info(revision: str) -> None:
    """Show `revision` as the one in force, and no other."""
    SETTINGS_INFO.clear()
    SETTINGS_INFO.labels(revision=revision).set(1)


def describe_metrics() -> list[Described]:
    """Every metric, for the table of METRICS.md and the test that compares the two."""
    return list(DESCRIBED)
