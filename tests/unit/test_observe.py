"""What a step and its acknowledgement count, metric by metric."""

from __future__ import annotations

import logging
import time

import pytest
from prometheus_client import REGISTRY

from stream.contracts import Cause, Erasure, Rejection, Request
from stream.core.micro_batch import Asked, ErasedUser, PartResult, StepResult
from stream.core.state import UserShard
from stream.core.wire import Layout
from stream.kafka.batches import RecordBatch
from stream.observe import Observer
from stream.settings import Topics


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_every_count_goes_to_its_metric() -> None:
    topic = "observed"
    wanted = {
        ("freshet_events_total", ("topic", topic)): 5.0,
        ("freshet_events_skipped_total", ("topic", topic), ("reason", "applied")): 1.0,
        ("freshet_events_skipped_total", ("topic", topic), ("reason", "repeated")): 2.0,
        ("freshet_misrouted_records_total", ("topic", topic)): 3.0,
        ("freshet_unknown_item_events_total",): 4.0,
        ("freshet_users_left_total", ("reason", "expired")): 7.0,
        ("freshet_users_left_total", ("reason", "evicted")): 8.0,
        ("freshet_users_left_total", ("reason", "erased")): 9.0,
        ("freshet_dead_letters_total", ("topic", topic), ("reason", "not_json")): 1.0,
        ("freshet_lists_total", ("placement", "seen"), ("variant", "default")): 6.0,
        ("freshet_stage_seconds_count", ("stage", "poll")): 1.0,
        ("freshet_stage_seconds_count", ("stage", "publish")): 1.0,
        ("freshet_event_to_list_seconds_count",): 2.0,
    }
    before = {key: value(key[0], **dict(key[1:])) for key in wanted}
    part = PartResult(
        folded=5,
        skipped=1,
        repeated=2,
        misrouted=3,
        unknown_items=4,
        expired=7,
        evicted=8,
        removed=9,
        rejections=[Rejection(0, "not_json", None)],
        lists_by_arm={"seen": 6},
    )
    batch = RecordBatch(topic, 0, 0, 2, [b"u"] * 2, [b""] * 2, [0, 1], [0, 0])
    Observer().acked(batch, part, begun_s=1.0, sent_s=2.0)
    counted = {key: value(key[0], **dict(key[1:])) - before[key] for key in wanted}
    assert counted == wanted


def test_what_has_not_happened_is_0_from_the_start() -> None:
    Observer(topics=Topics(clicks="quiet-clicks", items="quiet-items"))
    for name, labels in (
        ("freshet_events_total", {"topic": "quiet-clicks"}),
        ("freshet_misrouted_records_total", {"topic": "quiet-clicks"}),
        ("freshet_dead_letters_total", {"topic": "quiet-clicks", "reason": "not_json"}),
        ("freshet_dead_letters_total", {"topic": "quiet-items", "reason": "not_json"}),
    ):
        assert REGISTRY.get_sample_value(name, labels) == 0, name
    assert REGISTRY.get_sample_value("freshet_events_total", {"topic": "quiet-items"}) is None


def test_an_erasure_of_nobody_counts_no_user_who_left() -> None:
    reasons = ("expired", "evicted", "erased")
    before = [value("freshet_users_left_total", reason=reason) for reason in reasons]
    part = PartResult(erased=[ErasedUser(b"u", b"hash", Erasure("u", 1), 0)])
    batch = RecordBatch("observed", 0, 0, 1, [b"u"], [b""], [0], [0])
    Observer().acked(batch, part, begun_s=1.0, sent_s=2.0)
    assert [value("freshet_users_left_total", reason=reason) for reason in reasons] == before


def test_a_clock_set_back_makes_no_sum_fall() -> None:
    """A sum that falls would read as a restart."""
    sums = [("freshet_stage_seconds_sum", {"stage": stage}) for stage in ("poll", "publish")]
    sums.append(("freshet_event_to_list_seconds_sum", {}))
    before = [value(name, **labels) for name, labels in sums]
    now_s = time.time()
    batch = RecordBatch("observed", 0, 0, 1, [b"u"], [b""], [int(now_s * 1000) + 9_000_000], [0])
    Observer().acked(batch, PartResult(), begun_s=now_s + 3600, sent_s=now_s + 3600)
    assert all(value(name, **labels) >= b for (name, labels), b in zip(sums, before, strict=True))


def test_a_step_counts_its_records_stages_and_refused_states(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [
        ("freshet_batch_events_sum", {}),
        ("freshet_stage_seconds_count", {"stage": "fold"}),
        ("freshet_refused_states_total", {}),
    ]
    before = [value(name, **labels) for name, labels in names]
    observer = Observer()
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            observer.stepped(StepResult([], 7, refused_states=1, stage_s={"fold": 0.1}))
    assert [value(n, **labels) - b for (n, labels), b in zip(names, before, strict=True)] == [
        14,
        2,
        2,
    ]
    assert len(caplog.records) == 1, "once in a worker's life"


def test_answers_are_counted_and_timed_apart_from_lists() -> None:
    names = {
        ("freshet_answers_total", ("type", "list"), ("status", "late")): 2.0,
        ("freshet_answers_total", ("type", "rank"), ("status", "answered")): 1.0,
        ("freshet_request_to_answer_seconds_count",): 4.0,
        ("freshet_event_to_list_seconds_count",): 0.0,
    }
    before = {key: value(key[0], **dict(key[1:])) for key in names}
    shard = UserShard(Layout(16, "float32", 5, 1))
    request = Request(request_id="r", user_id="u", type="list")
    asked = Asked(shard, request, b"u", Cause("requests", 0, 0, 1))
    part = PartResult(
        asked=[asked] * 3,
        answered=[("list", "late"), ("rank", "answered"), ("list", "late")],
        rejections=[Rejection(3, "not_json", None)],
    )
    batch = RecordBatch("observed", 0, 0, 4, [b"u"] * 4, [b""] * 4, [0, 1, 2, 3], [0] * 4)
    Observer().acked(batch, part, begun_s=1.0, sent_s=2.0)
    assert {key: value(key[0], **dict(key[1:])) - before[key] for key in names} == names
