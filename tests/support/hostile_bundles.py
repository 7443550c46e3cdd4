"""Bundles that somebody has damaged: `python -m tests.support.hostile_bundles --cases 200`.

Each case changes one thing of the demo's bundle, makes checksums and id right again where that can
be, and loads it. It must load or be refused with a `BundleError` that names a file; anything else
is printed, and the exit code is 1. A case announces itself first, so that one that ends the process
or hangs is known.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from stream.core.bundle import MANIFEST, Bundle, manifest_id
from stream.core.model import Model
from stream.errors import BundleError

DEMO = Path(__file__).parents[2] / "stream" / "demo" / "data" / "bundle"
FILES = ("items.npz", "update.onnx", "score.onnx", "golden.npz")
CONTENT = "content.onnx"  # where a bundle has it

Fields = dict[str, Any]

# What a field of the manifest may turn into.
_VALUES = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), "", "x", "../x", "/dev/zero", "\x1b[2J", "\ud800", "%s{0}", [], {}, [[]] * 9),
)


def seal(folder: Path, change: Callable[[Fields], object] = lambda fields: None) -> None:
    """Change the manifest and make checksums and id right again, where JSON has an id for it."""
    fields = json.loads((folder / MANIFEST).read_text())
    for name in (*FILES, CONTENT):
        if (folder / name).is_file():
            fields["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    change(fields)
    try:
        fields["id"] = manifest_id(fields)
    except (ValueError, TypeError):
        fields["id"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(fields))


def spoiled(folder: Path) -> str:
    """A copy of the demo's bundle at `folder`, sound by its golden sequences, whose model makes
    states of NaN of events on one item; answers that item's id.
    """
    shutil.copytree(DEMO, folder)
    with np.load(folder / "golden.npz") as golden, np.load(folder / "items.npz") as items:
        ids = items["item_ids"]
        row = max(set(range(1, len(ids))) - set(golden["item_rows"].ravel().tolist()))
    model = onnx.load(folder / "update.onnx")
    graph = model.graph
    *_, last = graph.node
    assert list(last.output) == [graph.output[0].name]
    last.output[0] = "sound"
    for name, value in (
        ("bad_row", np.array(row, np.int64)),
        ("nan", np.array(np.nan, np.float32)),
        ("last_axis", np.array([-1], np.int64)),
    ):
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    graph.node.extend(
        [
            onnx.helper.make_node("Equal", ["item_row", "bad_row"], ["bad"]),
            onnx.helper.make_node("Unsqueeze", ["bad", "last_axis"], ["bad_users"]),
            onnx.helper.make_node("Where", ["bad_users", "nan", "sound"], [graph.output[0].name]),
        ]
    )
    onnx.save(model, folder / "update.onnx")
    seal(folder)
    return str(ids[row])


def _field(folder: Path, rng: random.Random) -> str:
    """Another value for one field, at any depth."""
    path: list[Any] = []

    def change(fields: Any) -> None:
        at = fields
        while True:
            name = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            path.append(name)
            if not isinstance(at[name], dict | list) or not at[name] or rng.random() < 0.2:
                break
            at = at[name]
        if rng.random() < 0.1:
            del at[name]
            path.append("gone")
        else:
            at[name] = rng.choice(_VALUES)
            path.append(repr(at[name]))

    seal(folder, change)
    return f"field {path}"


def _text(folder: Path, rng: random.Random) -> str:
    """Bytes of the manifest, which then matches no id."""
    content = bytearray((folder / MANIFEST).read_bytes())
    content[rng.randrange(len(content))] = rng.randrange(256)
    (folder / MANIFEST).write_bytes(content)
    return "manifest byte"


def _bits(folder: Path, rng: random.Random) -> str:
    """One to eight bits of a file."""
    file = folder / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    # Structure is at both ends of an archive, and everywhere in a graph.
    span = len(content) if file.suffix == ".onnx" else min(600, len(content))
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(span)
        content[at if rng.random() < 0.5 else -1 - at] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    seal(folder)
    return f"bits of {file.name}"


def _cut(folder: Path, rng: random.Random) -> str:
    file = folder / rng.choice(FILES)
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])
    seal(folder)
    return f"{file.name} cut"


def _spliced(folder: Path, rng: random.Random) -> str:
    """A piece of a file put elsewhere in it."""
    file = folder / rng.choice(FILES[1:])
    content = file.read_bytes()
    at, start = rng.randrange(len(content)), rng.randrange(len(content))
    piece = content[start : start + rng.randint(1, 40)]
    file.write_bytes(content[:at] + piece + content[at + rng.choice((0, len(piece))) :])
    seal(folder)
    return f"{file.name} spliced"


_CHANGES = (_field, _field, _bits, _bits, _cut, _spliced, _text)


def run(cases: int, seed: int) -> dict[str, int]:
    """Load `cases` bundles; counts of refused and loaded ones, and of those that went wrong."""
    counts = {"refused": 0, "loaded": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as scratch:
        for case in range(seed, seed + cases):
            folder = Path(scratch) / str(case)
            shutil.copytree(DEMO, folder)
            rng = random.Random(case)
            what = rng.choice(_CHANGES)(folder, rng)
            print(f"case {case}: {what}", flush=True)
            try:
                Model(Bundle.load(folder), "cpu")
                counts["loaded"] += 1
            except BundleError as error:
                said = str(error)
                right = said.startswith(str(folder)) and said.isprintable() and len(said) < 1000
                counts["refused" if right else "wrong"] += 1
                if not right:
                    print(f"WRONG {said!r}", flush=True)
            except BaseException as error:
                counts["wrong"] += 1
                print(f"WRONG {error!r}", flush=True)
            shutil.rmtree(folder)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.hostile_bundles")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = run(options.cases, options.seed)
    print(json.dumps(counts))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
