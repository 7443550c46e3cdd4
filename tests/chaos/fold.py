"""The state of one user, event by event: what the changelog must hold, bit for bit.

Plain Python bookkeeping and the wire layout spelled out. Only the arithmetic of one update is the
bundle's own graph, run for one event at a time, since the states are compared bit for bit.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from stream.core.bundle import Bundle
from tests.chaos.decode import ENTRY, HEADER, LAYOUT, TYPES, Event, item_hash

RING = 50
IMPRESSION = TYPES["impression"]


class Arithmetic:
    """One update of a state by the bundle's graph, with the vectors of all items.

    Parameters
    ----------
    new_items : embedding by item_id of those that the bundle does not know, as the catalogue has it

    Attributes
    ----------
    manifest : of the bundle, as its file has it
    """

    def __init__(self, bundle: Bundle, new_items: Mapping[str, Sequence[float]]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            bundle.update_onnx, options, providers=["CPUExecutionProvider"]
        )
        self._row = {item: row for row, item in enumerate([*bundle.item_ids, *new_items])}
        vectors = [[_unit(given) for given in new_items.values()]] if new_items else []
        self._table = np.concatenate([bundle.embeddings, *vectors]).astype(np.float32)
        self.manifest = json.loads((bundle.path / "manifest.json").read_text(encoding="utf-8"))
        self.size = bundle.manifest.state.size
        self.version = bundle.version
        self._weights = _weights(self.manifest, {}, None)

    def weigh(self, weights: Mapping[str, float], half_lives_s: Sequence[float]) -> None:
        """Go on with these in the place of the bundle's: of types by name, and of all sums."""
        self._weights = _weights(self.manifest, weights, half_lives_s)

    def update(self, state: np.ndarray, event: Event, gap_s: float) -> np.ndarray:
        """float32, shape (size,), to the same."""
        (following,) = self._session.run(
            None,
            {
                "state": state[None],
                "item_table": self._table,
                "item_row": np.array([self._row.get(event.item_id, 0)]),
                "event_type": np.array([event.kind]),
                "gap_s": np.array([gap_s], np.float32),
                **self._weights,
            },
        )
        return np.asarray(following[0])


def _weights(
    manifest: Mapping[str, Any],
    others: Mapping[str, float],
    half_lives_s: Sequence[float] | None,
) -> dict[str, np.ndarray]:
    """What the graph takes of them, if its weights are live."""
    if not manifest.get("live_weights", False):
        return {}
    by_code = [0.0] * 16
    for name, weight in (manifest["event_weights"] | others).items():
        by_code[TYPES[name]] = weight
    found = half_lives_s or manifest.get("half_lives_s")
    found = found or [fading["half_life_s"] for fading in manifest["additive"]["sums"]]
    rates = [math.log(2) / half_life_s for half_life_s in found]
    return {
        "type_weights": np.array(by_code, np.float32),
        "fading_rates": np.array(rates, np.float32),
    }


def _unit(given: Sequence[float]) -> list[float]:
    """An embedding of length 1: what an item's vector is, wherever it came from."""
    exact = [float(np.float32(number)) for number in given]
    length = math.sqrt(math.fsum(number * number for number in exact))
    return [number / length for number in exact]


class Reference:
    """The state of one user, who may have been erased: events up to then change nothing."""

    def __init__(self, arithmetic: Arithmetic, erased_ms: int = 0) -> None:
        self._arithmetic = arithmetic
        self._vector = np.zeros(arithmetic.size, np.int8)
        self._scale = np.float32(0)
        self._newest_ms = 0
        self._erased_ms = erased_ms
        self._events = 0
        self._bought_s = 0
        self._spent = np.float32(0)
        self._purchases = 0
        self._ring: deque[tuple[int, int, int, int]] = deque(maxlen=RING)
        self._remembered = 0

    @property
    def newest_ms(self) -> int:
        return self._newest_ms

    def fold(self, event: Event) -> bool:
        """Whether the event changed anything: it is no repeat, and not from before an erasure."""
        if event.time_ms <= self._erased_ms:
            return False
        item = item_hash(event.item_id) % 2**60
        if event.named and any(old[0] == item and old[2] == event.named for old in self._ring):
            return False
        gap_s = (event.time_ms - self._newest_ms) / 1000 if self._newest_ms else 0.0
        state = self._vector.astype(np.float32) * self._scale
        following = self._arithmetic.update(state, event, gap_s)
        self._scale = np.abs(following).max() / np.float32(127)
        divisor = self._scale if self._scale > 0 else np.float32(1)
        self._vector = np.rint(following / divisor).astype(np.int8)
        self._newest_ms = max(self._newest_ms, event.time_ms)
        self._events += 1
        if event.kind == TYPES["purchase"]:
            self._bought_s = max(self._bought_s, event.time_ms // 1000)
            self._spent = np.float32(float(self._spent) + event.paid)
            self._purchases = min(self._purchases + 1, 65_535)
        if event.kind == TYPES["cancel"]:
            self._spent = np.float32(max(float(self._spent) - event.paid, 0.0))
            self._purchases = max(self._purchases - 1, 0)
        if event.kind != IMPRESSION:
            self._ring.append((item, event.time_ms // 1000, event.named, event.kind))
            self._remembered += 1
        return True

    @classmethod
    def decode(cls, arithmetic: Arithmetic, state: bytes | None) -> Reference:
        """The user whose state this is; None is a new one's."""
        user = cls(arithmetic)
        if state is None:
            return user
        fields = HEADER.unpack_from(state)
        used, head, user._events, user._newest_ms = fields[3], fields[4], fields[7], fields[8]
        user._erased_ms = fields[9]
        user._scale = np.float32(fields[10])
        user._bought_s, user._purchases = fields[11], fields[13]
        user._spent = np.float32(fields[12])
        user._vector = np.frombuffer(state, np.int8, arithmetic.size, HEADER.size)
        packed = ENTRY.iter_unpack(state[HEADER.size + arithmetic.size :])
        entries = [(both % 2**60, time_s, named, both >> 60) for both, time_s, named in packed]
        user._ring.extend(entries if used < RING else entries[head:] + entries[:head])
        user._remembered = used if used < RING else RING + head
        return user

    def encode(self) -> bytes:
        """The changelog value: the ring's slots are filled round and round."""
        head = self._remembered % RING
        entries = list(self._ring)
        if len(entries) == RING:
            entries = entries[RING - head :] + entries[: RING - head]
        header: list[Any] = [LAYOUT, 1, len(self._vector), len(entries), head, 0]
        header += [self._arithmetic.version, self._events, self._newest_ms, self._erased_ms]
        ring = b"".join(
            ENTRY.pack(item | kind << 60, time_s, named) for item, time_s, named, kind in entries
        )
        header += [self._scale, self._bought_s, self._spent, self._purchases]
        return HEADER.pack(*header) + self._vector.tobytes() + ring
