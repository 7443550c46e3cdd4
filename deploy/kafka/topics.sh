#!/bin/sh
# Topics as `freshet topics create` makes them with 12 partitions in 3 copies, for who makes topics
# with Kafka's own tools or describes them elsewhere. From any folder, with Kafka's bin on the PATH:
#
#     BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties sh topics.sh
#
# `dead-letters` must take what the topics that are read take: raise its max.message.bytes with theirs.
# `freshet topics check` tells what differs from what a worker needs.
set -eu

topic() {
    name=$1
    shift
    kafka-topics --bootstrap-server "${BOOTSTRAP:?}" --command-config "${COMMAND_CONFIG:?}" \
        --create --if-not-exists --partitions 12 --replication-factor 3 --topic "$name" "$@"
}

topic clicks \
    --config cleanup.policy=delete --config min.insync.replicas=2
topic purchases \
    --config cleanup.policy=delete --config min.insync.replicas=2
topic items \
    --config cleanup.policy=compact --config min.insync.replicas=2
topic requests \
    --config cleanup.policy=delete --config min.insync.replicas=2
topic erasures \
    --config cleanup.policy=compact,delete --config message.timestamp.type=LogAppendTime \
    --config retention.bytes=-1 --config retention.ms=604800000 \
    --config segment.ms=86400000 --config min.compaction.lag.ms=604800000 \
    --config max.compaction.lag.ms=691200000 --config delete.retention.ms=86400000 \
    --config min.insync.replicas=2
topic recommendations \
    --config cleanup.policy=compact,delete --config max.compaction.lag.ms=86400000 \
    --config delete.retention.ms=86400000 --config max.message.bytes=4194304 \
    --config min.insync.replicas=2
topic answers \
    --config cleanup.policy=delete --config retention.ms=3600000 \
    --config max.message.bytes=4194304 --config min.insync.replicas=2
topic dead-letters \
    --config cleanup.policy=delete --config max.message.bytes=2097152 \
    --config min.insync.replicas=2
topic receipts \
    --config cleanup.policy=delete --config min.insync.replicas=2
topic trending \
    --config cleanup.policy=compact --config min.cleanable.dirty.ratio=0.1 \
    --config max.message.bytes=4194304 --config min.insync.replicas=2
topic freshet-statistics \
    --config cleanup.policy=compact --config min.cleanable.dirty.ratio=0.1 \
    --config min.insync.replicas=2
topic freshet-interests-changelog \
    --config cleanup.policy=compact --config max.message.bytes=8388608 \
    --config segment.bytes=67108864 --config min.cleanable.dirty.ratio=0.1 \
    --config max.compaction.lag.ms=86400000 --config delete.retention.ms=86400000 \
    --config min.insync.replicas=2
