"""`freshet watch`: lists as they arrive. In: the recommendations topic. Out: a line a list.

The example of how to subscribe: every partition, no group, from now on.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from stream.cli.clients import BrokerWatch, open_consumer
from stream.cli.common import complete_placement, examples, printable, with_settings
from stream.cli.lists import ListReader, Titles
from stream.config import Settings
from stream.contracts import RankedList, decode_recommendation
from stream.errors import RecordError
from stream.kafka.cluster import Cluster
from stream.terminal import printable_json


@click.command(
    "watch",
    epilog=examples(
        "freshet watch --user u1 --placement home",
        "freshet watch --json --count 10 > lists.jsonl",
    ),
)
@click.option("--user", help="This user's lists alone.")
@click.option(
    "--placement", help="This placement's lists alone.", shell_complete=complete_placement
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Items a line.")
@click.option("--count", type=click.IntRange(1), help="End after so many records.")
@click.option("--json", "as_json", is_flag=True, help="The whole record, one JSON line each.")
@with_settings
def command(
    settings: Settings,
    *,
    user: str | None,
    placement: str | None,
    top: int,
    count: int | None,
    as_json: bool,
) -> None:
    """Print lists as they arrive, until Ctrl-C. A broker that goes away is waited for."""
    shown = 0
    topic = settings.topics.recommendations
    with open_consumer(Cluster.of(settings), [topic, settings.topics.items]) as consumer:
        lists = ListReader(consumer, settings, topic)
        broker = BrokerWatch(Cluster.of(settings))
        click.echo(f"watching {topic}; Ctrl-C ends", err=True)
        while count is None or shown < count:
            records = lists.poll(timeout_s=0.5)
            if not records:
                broker.look()
            for record in records:
                user_id = (record.key or b"").decode(errors="replace")
                if user not in (None, user_id):
                    continue
                lines = _lines(
                    lists.titles,
                    user_id,
                    record.value,
                    placement=placement,
                    top=top,
                    as_json=as_json,
                )
                for line in lines:
                    click.echo(line)
                shown += bool(lines)
                if shown == count:
                    break


def _lines(
    titles: Titles,
    user_id: str,
    value: bytes | None,
    *,
    placement: str | None,
    top: int,
    as_json: bool,
) -> list[str]:
    """Return what one record has to show; nothing when it lacks the placement asked for."""
    if value is None:  # the user was forgotten
        forgotten = _json({"user_id": user_id, "forgotten": True})
        return [forgotten if as_json else f"{printable(user_id)}  forgotten"]
    try:
        recommendation = decode_recommendation(value)
    except RecordError as error:
        click.echo(f"a record that cannot be read: {error}", err=True)
        return []
    wanted = [name for name in recommendation.lists if placement in (None, name)]
    if as_json:
        # Through a decoder, for one line whoever wrote it; untyped, to keep fields we do not know.
        return [_json(msgspec.json.decode(value))] if wanted else []
    lines = []
    for name in wanted:
        items = _items(titles, recommendation.lists[name], top)
        lines.append(f"{printable(user_id)}  {printable(name)}  {items}")
    return lines


def _json(value: Any) -> str:
    return printable_json(msgspec.json.encode(value).decode())


def _items(titles: Titles, ranked: RankedList, top: int) -> str:
    return "  ".join(
        f"{item.rank}. {printable(titles.title(item.item_id))} {item.score:.2f} "
        f"({printable(titles.why(item.reason))})"
        for item in ranked.items[:top]
    )
