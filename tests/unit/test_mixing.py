"""Hashes and points: every bit of them is held, since variants, replays and counts hang on it."""

from __future__ import annotations

import numpy as np
import pytest

from stream.contracts import Cause
from stream.core.mixing import hash_of, hashes_of, points, points_of, split_mix, uniforms
from stream.core.policy import arranging
from stream.core.standing import extended
from stream.core.statistics.contexts import context_hash, mixed

KEYS = [b"u1", "käse".encode(), b"", b"x" * 200]
SEEDS = np.array([0, 1, 17552552091466137762, 2**64 - 1], np.uint64)


def exactly(*told: str) -> list[float]:
    return [float.fromhex(text) for text in told]


def test_places_of_payoffs_are_what_they_always_were() -> None:
    assert points_of(KEYS, person=b"home").tolist() == exactly(
        "0x1.a7bf70a8caf35p-1",
        "0x1.333df60a4da7dp-1",
        "0x1.7b07d51b76a58p-2",
        "0x1.2e7a2c312e819p-1",
    )
    assert points_of(KEYS, person=b"p" * 16).tolist() == exactly(
        "0x1.9d13bec536788p-4",
        "0x1.b9a548bc61100p-4",
        "0x1.b177f44a139f4p-2",
        "0x1.1941f49c73a88p-4",
    )


def test_names_that_are_long_and_begin_alike_have_points_of_their_own() -> None:
    for of, most in (("person", 16), ("salt", 64)):
        names = [b"p" * most, b"p" * most + b"/A", b"p" * most + b"/B"]
        found = [points_of(KEYS, **{of: name}).tolist() for name in names]
        assert len({point for some in found for point in some}) == 3 * len(KEYS)
    assert points_of(KEYS, person=b"p" * 40).tolist() == exactly(
        "0x1.e1367b3ceb19ap-1",
        "0x1.32d80c82922f3p-1",
        "0x1.474b4c866fc50p-1",
        "0x1.fedd4495685d7p-1",
    )


def test_points_of_variants_are_what_they_always_were() -> None:
    assert points_of(KEYS, salt=b"home").tolist() == exactly(
        "0x1.7b984d7626650p-1",
        "0x1.2c7fd177fc904p-2",
        "0x1.767b01a237432p-1",
        "0x1.d48d55e3abdd8p-3",
    )
    assert points_of(KEYS, salt=b"p" * 64).tolist() == exactly(
        "0x1.5eecf1579df80p-1",
        "0x1.3b534cee4e54ep-2",
        "0x1.3c738cc404d00p-5",
        "0x1.0c428f26b34c2p-1",
    )


def test_draws_of_lists_are_what_they_always_were() -> None:
    cause = Cause("clicks", 3, 7, 0)
    assert arranging._seed(b"u1", cause, b"home") == 17552552091466137762
    assert arranging._seed(b"", Cause("purchases", 0, 0, 0), b"mail") == 7180822008330491602
    assert uniforms(SEEDS, 3).tolist() == [
        exactly("0x1.c4415072f63b9p-1", "0x1.b9e279aa86e58p-2", "0x1.b117462002500p-6"),
        exactly("0x1.22145bd91204bp-1", "0x1.7dd71b42cb1ddp-1", "0x1.f12745ddf664ap-1"),
        exactly("0x1.619de6e781cb2p-2", "0x1.29d03eb800448p-1", "0x1.7c5a60fefacf8p-4"),
        exactly("0x1.c9b2e2ee36ca5p-1", "0x1.d33ff0cfb7ed0p-1", "0x1.c17fc26593940p-3"),
    ]


def test_hashes_of_what_stands_are_what_they_always_were() -> None:
    numbers = np.array([[1, 2, 3], [0, 0, 0], [-1, 5, 2**62], [7, 7, 7]], np.int64)
    before = SEEDS.copy()
    assert extended(SEEDS, numbers).tolist() == [
        7702586659592502839,
        12793040940332582595,
        982543333544269027,
        9798283459058430430,
    ]
    assert extended(SEEDS, numbers[:, :0]).tolist() == [1, *SEEDS[1:].tolist()]
    np.testing.assert_array_equal(SEEDS, before)


def test_hashes_of_contexts_are_what_they_always_were() -> None:
    assert context_hash("country", "DE") == 3681416143797881239
    assert context_hash("hour", "23") == 15483508981188094163
    assert mixed(SEEDS, np.array([3, 0, 5, 2**63], np.uint64)).tolist() == [
        15560307615617956227,
        12994781566227106604,
        9718787888094688471,
        12373989555017149930,
    ]
    nothing = np.zeros(1, np.uint64)
    assert mixed(nothing, nothing).tolist() == [1]


def test_splitmix64_is_the_published_one() -> None:
    """The first numbers of Vigna's splitmix64.c from the seed 1234567."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * golden
    assert split_mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_points_are_from_0_to_less_than_1() -> None:
    edges = np.array([0, 2**11 - 1, 2**11, 2**64 - 1], np.uint64)
    assert points(edges).tolist() == [0, 0, 2.0**-53, 1 - 2.0**-53]


def test_salt_and_person_make_other_hashes_of_the_same_keys() -> None:
    assert hashes_of([b"u1"]).tolist() == [hash_of(b"u1")]
    found = {int(hashes_of([b"u1"], **of)[0]) for of in ({}, {"salt": b"a"}, {"person": b"a"})}
    assert len(found) == 3
    assert hashes_of([]).shape == (0,)
    with pytest.raises(ValueError, match="maximum"):
        hashes_of(KEYS, salt=b"s" * 65)
