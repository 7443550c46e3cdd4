"""What is known of a user, for the user to see. In: a state. Out: its plain reading."""

from __future__ import annotations

from msgspec.structs import replace

from stream.contracts import Answer, Interaction, UserState
from stream.core.answers.asking import Crowd, Room, rounded, type_name


def audit(room: Room, crowd: Crowd) -> list[Answer]:
    """The states of users, in words."""
    users, ring = crowd.audience.users, crowd.audience.ring
    stored = users.store()
    newest_first = users.ring_order(slice(None), room.layout.ring)
    answers = []
    for user, answer in enumerate(room.answers(crowd)):
        header = users.headers[user]
        at = newest_first[user, : int(header["ring_used"])]
        columns = (
            ring.rows[user, at].tolist(),
            ring.types[user, at].tolist(),
            users.ring["time_s"][user, at].tolist(),
        )
        state = UserState(
            events=int(header["events"]),
            newest_event_ms=int(header["newest_ms"]),
            interactions=tuple(
                Interaction(type_name(code), room.item_id(row), 1000 * time_s)
                for row, code, time_s in zip(*columns, strict=True)
            ),
            state_bytes=len(stored[user]) if answer.known_user else 0,
            purchases=int(header["purchases"]),
            spent=rounded(header["spent"]),
            newest_purchase_ms=int(header["bought_s"]) * 1000,
        )
        answers.append(replace(answer, state=state))
    return answers
