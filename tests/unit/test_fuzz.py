"""Hostile records in process: a short run of what `make fuzz` does by the million.

`FUZZ_SEED` names another seed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.contracts import dead_letter_headers, decode_events
from tests.fuzz import inside as inside_module
from tests.fuzz.__main__ import AT_ONCE, counts, main, run_inside
from tests.fuzz.inside import DIM, Inside
from tests.fuzz.judge import judge
from tests.fuzz.nasties import RAW_VALUES, VALUES
from tests.fuzz.records import NOW_MS, TOPICS, Records
from tests.fuzz.speed import speeds, table, too_slow

SEED = int(os.environ.get("FUZZ_SEED", "20261125"))


def test_records_at_random(tmp_path: Path) -> None:
    inside, _ = run_inside(tmp_path, SEED, 3 * AT_ONCE * len(TOPICS))
    assert inside.wrong == []
    assert (
        min(inside.verdicts[topic, verdict] for topic in TOPICS for verdict in ("good", "bad"))
        > 800
    )
    assert len({reason for _, reason in inside.reasons}) > 15
    assert any("| all |" in line for line in counts(inside))


@pytest.mark.parametrize("option", ["--records=0", "--live=-1", "--bomb-mib=0"])
def test_a_run_of_no_records_is_refused(option: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2


@pytest.mark.parametrize("topic", TOPICS)
def test_the_whole_corpus(topic: str, tmp_path: Path) -> None:
    source, inside = Records(SEED), Inside(tmp_path)
    records = [source.whole(topic)._replace(value=value) for value in VALUES]
    for raw in RAW_VALUES:
        records += [
            source.spliced(topic, name, raw) for name in (None, "user_id", "item_id", "note")
        ]
    for way in source.ways:
        records += [source.draw(topic, way) for _ in range(5)]
    inside.put(topic, records)
    assert inside.wrong == []


@pytest.mark.alone  # it measures time
def test_hostile_input_keeps_a_tenth_of_the_speed(tmp_path: Path) -> None:
    found = speeds(tmp_path, SEED, batches=1, topics=["purchases"], every=5)
    assert too_slow(found) == []
    assert len(table(found)) == 2 + 5


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = [
    *("user_id", "item_id", "type", "event_time_ms", "event_id", "session_id", "placement"),
    *("list_name", "properties", "quantity", "unit_price", "currency", "note"),
]


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3), st.booleans())
def test_judge_and_codec_agree_on_any_json(changed: dict[str, Any], escaped: bool) -> None:
    event = {"user_id": "u", "item_id": "i", "type": "purchase", "event_time_ms": NOW_MS, **changed}
    value = json.dumps(event, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        key = str(event["user_id"]).encode()
    except UnicodeEncodeError:
        key = b"u"
    verdict = judge("purchases", key, value, NOW_MS, DIM)
    _, rejections = decode_events("purchases", [key], [value], [0], NOW_MS)
    assert (verdict == "bad") == bool(rejections), rejections


def test_a_letter_that_is_not_what_was_sent_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness is tested too: a header lost, a good record rejected, a bad one folded."""
    source = Records(SEED)
    record = source.draw("items", "header")._replace(value=b"{")

    def without_headers(*place: Any, sent: Any = (), value: Any = None) -> Any:
        return dead_letter_headers(*place, value=value)

    monkeypatch.setattr("stream.feed.dead_letter_headers", without_headers)
    inside = Inside(tmp_path)
    inside.put("items", [record])
    assert [line.partition(":")[0] for line in inside.wrong] == ["a letter is not what was sent"]
    good = source.whole("clicks")
    for sent, verdict in ((good, "bad"), (good._replace(value=b"{"), "good")):
        inside = Inside(tmp_path)
        monkeypatch.setattr(inside_module, "judge", lambda *_, verdict=verdict: verdict)
        inside.put("clicks", [sent])
        assert [line.partition(",")[0] for line in inside.wrong] == [f"judged {verdict}"]
