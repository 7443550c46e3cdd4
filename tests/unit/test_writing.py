"""Records put together from pieces are those that the codec writes."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.contracts import (
    Cause,
    ListedItem,
    RankedList,
    Reason,
    Recommendation,
    decode_recommendation,
    encode_record,
)
from stream.contracts.writing import (
    ListWriter,
    RawRecommendation,
    item_piece,
    reason_piece,
    score_pieces,
)


@given(
    listed=st.lists(
        st.tuples(
            st.text(min_size=1, max_size=8),
            st.floats(0, 1, width=32),
            st.sampled_from([Reason("popular"), Reason("click", 'i"9'), Reason("like", "é")]),
        ),
        max_size=5,
    ),
    user_id=st.text(min_size=1, max_size=8),
)
def test_a_list_from_pieces_is_the_list(
    listed: list[tuple[str, float, Reason]], user_id: str
) -> None:
    wanted = Recommendation(
        user_id,
        {
            "home": RankedList(
                [
                    ListedItem(item_id, round(score, 6), rank, reason)
                    for rank, (item_id, score, reason) in enumerate(listed, 1)
                ]
            )
        },
        "bundle",
        "default",
        Cause("clicks", 0, 5, 10**12),
        10**12,
    )
    scores = np.array([[score for _, score, _ in listed]], np.float32)
    (thousandths,), (millionths,) = score_pieces(scores)
    items = [item_piece(item_id) for item_id, _, _ in listed]
    reasons = [reason_piece(reason) for _, _, reason in listed]
    writer = ListWriter()
    for _ in range(2):  # the second one finds the first one's pieces
        home = writer.ranked_list(items, thousandths, millionths, reasons)
        made = encode_record(
            RawRecommendation(
                user_id, {"home": home}, wanted.model, wanted.variant, wanted.cause, 10**12
            )
        )
        assert decode_recommendation(made) == wanted
        assert list(json.loads(made)) == list(json.loads(encode_record(wanted)))
