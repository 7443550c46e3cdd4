#!/bin/sh
# The least rights of each role, as deploy/SECURE.md explains them. From any folder, with Kafka's bin on
# the PATH:
#
#     BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties sh acls.sh
#
# Take out the roles that you have not, and give principals the names that they have.
set -eu

acl() {
    kafka-acls --bootstrap-server "${BOOTSTRAP:?}" --command-config "${COMMAND_CONFIG:?}" \
        --add --allow-principal "$@"
}

acl User:worker --operation Read --operation DescribeConfigs \
    --topic clicks --topic purchases --topic items --topic requests
acl User:worker --operation Read --operation Write --operation DescribeConfigs --topic erasures
acl User:worker --operation Read --operation Write --operation DescribeConfigs \
    --topic freshet-interests-changelog
acl User:worker --operation Read --operation Write --operation DescribeConfigs \
    --topic freshet-statistics --topic trending
acl User:worker --operation Write --operation DescribeConfigs \
    --topic recommendations --topic answers
acl User:worker --operation Write --operation DescribeConfigs --topic dead-letters --topic receipts
acl User:worker --operation Read --group freshet

acl User:shop --operation Write --topic clicks --topic purchases

acl User:catalogue --operation Write --topic items

acl User:subscriber --operation Read --topic recommendations --topic trending

acl User:asker --operation Write --topic requests
acl User:asker --operation Read --topic answers

acl User:eraser --operation Write --topic erasures
acl User:eraser --operation Read --topic receipts

acl User:gateway --operation Write \
    --topic clicks --topic purchases --topic items --topic requests --topic erasures
acl User:gateway --operation Read --topic recommendations --topic answers --topic receipts

acl User:trainer --operation Read --topic clicks --topic purchases --topic items --topic erasures

acl User:admin --operation Create --cluster
acl User:admin --operation Describe --operation DescribeConfigs \
    --topic clicks --topic purchases --topic items
acl User:admin --operation Describe --operation DescribeConfigs \
    --topic requests --topic answers --topic erasures --topic receipts
acl User:admin --operation Describe --operation DescribeConfigs \
    --topic recommendations --topic dead-letters
acl User:admin --operation Describe --operation DescribeConfigs --topic freshet-interests-changelog
acl User:admin --operation Describe --operation DescribeConfigs \
    --topic freshet-statistics --topic trending

acl User:operator --operation Read --operation Write --operation DescribeConfigs \
    --topic clicks --topic purchases
acl User:operator --operation Read --operation DescribeConfigs --topic items --topic recommendations
acl User:operator --operation Describe --operation DescribeConfigs \
    --topic requests --topic answers --topic erasures --topic receipts
acl User:operator --operation Describe --operation DescribeConfigs \
    --topic dead-letters --topic freshet-interests-changelog
acl User:operator --operation Describe --operation DescribeConfigs \
    --topic freshet-statistics --topic trending
acl User:operator --operation Describe --group freshet
acl User:operator --operation Describe --cluster

acl User:autoscaler --operation Describe --topic clicks --topic purchases
acl User:autoscaler --operation Describe --group freshet
