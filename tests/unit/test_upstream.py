"""The internals of Faust, mode and aiokafka that the Kafka room overrides or uses, pinned.

Both libraries are pinned exactly; when one is raised, this test says what to read again first. A
signature is compared as text; a body, where ours replaces it or leans on its steps, by its hash.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import faust.app.base as app
import faust.tables.base as tables_base
import faust.transport.drivers.aiokafka as driver
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher, subscription_state
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from faust import streams, topics
from faust.agents.agent import Agent
from faust.tables import recovery
from faust.transport import consumer
from kafka.consumer.fetcher import Fetcher as KafkaFetcher
from mode import services, worker

from stream.kafka.consumer import BatchConsumer
from stream.kafka.table import InterestTable
from stream.kafka.transport import BatchApp, BatchTopic, BatchTransport, BatchWorker

REREAD = "upstream changed: read it again beside what stream/kafka makes of it, then pin it anew"

OVERRIDDEN: dict[Callable[..., Any], str] = {
    consumer.Consumer._filter_tps_with_pending_acks: "self, topics=None",
    consumer.Consumer._new_offset: "self, tp",
    consumer.Consumer._add_gap: "self, tp, offset_from, offset_to",
    consumer.Consumer._drain_messages: "self, fetcher",
    consumer.Consumer.ack: "self, message",
    consumer.Consumer.commit_and_end_transactions: "self",
    consumer.Consumer.maybe_wait_for_commit_to_finish: "self",
    consumer.Consumer.on_partitions_assigned: "self, assigned, generation_id=0",
    consumer.Consumer.on_partitions_revoked: "self, revoked",
    consumer.Consumer.perform_seek: "self",
    consumer.Consumer.stop_flow: "self",
    consumer.Consumer._wait_next_records: "self, timeout",
    consumer.Consumer.verify_event_path: "self, now, tp",
    consumer.ThreadDelegateConsumer._getmany: "self, active_partitions, timeout",
    consumer.ThreadDelegateConsumer.highwaters: "self, *partitions",
    consumer.ThreadDelegateConsumer.earliest_offsets: "self, *partitions",
    consumer.ThreadDelegateConsumer.seek_wait: "self, partitions",
    driver.Consumer._to_message: "self, tp, record",
    driver.ConsumerRebalanceListener.on_partitions_assigned: "self, assigned",
    driver.AIOKafkaConsumerThread._ensure_consumer: "self",
    topics.Topic._compile_decode: "self",
    app.App._new_transport: "self",
    app.App._create_directories: "self",
    app.App._on_agent_error: "self, agent, exc",
    app.App.stream: "self, channel, beacon=None, **kwargs",
    app.App.create_event: "self, key, value, headers, message",
    services.Service._crash: "self, reason",
    worker.Worker._schedule_shutdown: "self, signal",
    app.App.on_first_start: "self",
    app.App.Worker: "self, **kwargs",
    tables_base.Collection.on_rebalance: "self, assigned, revoked, newly_assigned, generation_id=0",
    tables_base.Collection.on_recovery_completed: "self, active_tps, standby_tps",
    fetcher.Fetcher._create_fetch_waiter: "self",
    fetcher.FetchResult.check_assignment: "self, tp",
    fetcher.FetchResult.has_more: "self",
    fetcher.FetchResult._update_position: "self",
    subscription_state.SubscriptionState.fetch_context: "self",
    subscription_state.Assignment.state_value: "self, tp",
    GroupCoordinator.check_errors: "self",
    BatchBuilder._set_producer_state: "self, producer_id, producer_epoch, base_sequence",
    BatchBuilder.record_count: "self",
    BatchBuilder.size: "self",
    AIOKafkaClient.bootstrap: "self",
    AIOKafkaClient.set_topics: "self, topics",
    AIOKafkaClient.force_metadata_update: "self",
    AIOKafkaProducer.send_batch: "self, batch, topic, partition",
    InitProducerIdRequest.__init__: "self, transactional_id, transaction_timeout_ms",
}

REPLACED: dict[Callable[..., Any], str] = {
    consumer.Consumer._drain_messages: "3cc2d2bad16e",
    consumer.Consumer.wait_empty: "40bfc4088e59",
    consumer.Consumer.commit: "2202fd6f31de",
    consumer.Consumer._commit_offsets: "f1fafd828ebb",
    consumer.Consumer.perform_seek: "fb84a3ee6ae9",
    consumer.Consumer._wait_next_records: "c34256c0fb33",
    worker.Worker._schedule_shutdown: "99b0d37aac95",
    worker.Worker._stop_on_signal: "9cd7756ac460",
    recovery.Recovery._restart_recovery.fun: "1c79f4d79769",
    recovery.Recovery.on_recovery_completed: "bd49ed215f8f",
    app.App._on_partitions_revoked: "b21e4302a642",
    app.App._stop_consumer: "f07a854b2b9c",
    Agent._execute_actor: "799d3b3a0d5b",
    fetcher.Fetcher.fetched_records: "2510a6f4da3b",
    fetcher.Fetcher._get_actions_per_node: "cbc515639044",
    streams.Stream._py_aiter: "917b48059b77",
    fetcher.FetchResult.getall: "9669e7e2380f",
    fetcher.PartitionRecords._unpack_records: "10b83276e7de",
    BatchBuilder.__init__: "68a2ca3e2a30",
    BatchBuilder.append: "c48d59795df9",
    BatchBuilder._build: "1d283c65142c",
    MessageAccumulator.add_batch: "62e4bf8ca618",
    MessageAccumulator._pop_batch: "648e0056d71c",
    Sender._sender_routine: "052a3179106a",
    SendProduceReqHandler.handle_response: "ea424c78a713",
}

BATCH_CONSUMER = """
_filter_tps_with_pending_acks _new_offset _add_gap _drain_messages _getmany ack _to_message
commit_and_end_transactions earliest_offsets highwaters on_start on_stop on_partitions_assigned
on_partitions_revoked perform_seek seek_wait stop_flow verify_event_path RebalanceListener
"""


def text(function: Callable[..., Any]) -> str:
    """Parameters without annotations."""
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    return ", ".join(str(p.replace(annotation=p.empty)) for p in parameters)


def body(function: Callable[..., Any]) -> str:
    """Hash of the source without comments and white space."""
    source = re.sub(r"#.*", "", inspect.getsource(function))
    return hashlib.sha256("".join(source.split()).encode()).hexdigest()[:12]


def test_versions() -> None:
    assert version("faust-streaming") == "0.15.3", REREAD
    assert version("aiokafka") == "0.14.0", REREAD


@pytest.mark.parametrize("function", OVERRIDDEN, ids=lambda f: f.__qualname__)
def test_signature(function: Callable[..., Any]) -> None:
    assert text(function) == OVERRIDDEN[function], REREAD


@pytest.mark.parametrize("function", REPLACED, ids=lambda f: f.__qualname__)
def test_body(function: Callable[..., Any]) -> None:
    assert body(function) == REPLACED[function], REREAD


@pytest.mark.parametrize(
    ("ours", "attribute"),
    [(BatchConsumer, name) for name in BATCH_CONSUMER.split()]
    + [
        (BatchApp, name)
        for name in [
            "_crash",
            "_create_directories",
            "_new_transport",
            "_on_agent_error",
            "on_first_start",
            "stream",
        ]
    ]
    + [(InterestTable, name) for name in ["on_rebalance", "on_recovery_completed", "on_stop"]]
    + [(BatchTopic, "_compile_decode"), (BatchTransport, "Consumer")]
    + [(BatchWorker, "_schedule_shutdown")],
)
def test_every_override_has_something_to_override(ours: type, attribute: str) -> None:
    assert attribute in ours.__dict__
    assert any(attribute in base.__dict__ for base in ours.__mro__[1:]), REREAD


def test_both_clients_read_fetches_by_the_name_that_is_replaced() -> None:
    """`stream.kafka.unpack` and `stream.cli.unpack` put their own class there."""
    for parse in (fetcher.Fetcher._proc_fetch_request, KafkaFetcher._parse_fetched_data):
        assert "= MemoryRecords(" in inspect.getsource(parse), REREAD


def test_the_builder_in_python_has_names_encode_themselves() -> None:
    append = inspect.getsource(_DefaultRecordBatchBuilderPy.append)
    assert 'h_key.encode("utf-8")' in append, REREAD
