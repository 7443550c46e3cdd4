"""A bundle made by somebody who means harm is refused before it can do any."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stream.core import graph as looked_at
from stream.core import manifest as limits
from stream.core import model as running
from stream.core.bundle import MANIFEST, Bundle, read_manifest
from stream.core.model import Model
from stream.errors import BundleError
from tests.support.hostile_bundles import DEMO, FILES, Fields, seal
from tests.support.kafka import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


def refused(folder: Path, match: str) -> None:
    """Loading must be refused, and take next to no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=match):
            Bundle.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


# -- graphs ------------------------------------------------------------------------------------


def with_graph(folder: Path, change: Callable[[Any], object]) -> None:
    model = onnx.load(folder / "update.onnx")
    change(model)
    (folder / "update.onnx").write_bytes(model.SerializeToString())
    seal(folder)


def branch(*nodes: Any, initializers: Any = ()) -> Any:
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "branch", [], [output], list(initializers))


def external(name: str = "w") -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def add(*nodes: Any) -> Callable[[Any], None]:
    return lambda model: model.graph.node.extend(nodes)


CUSTOM = helper.make_node("Gelu", ["state"], ["g"], domain="com.microsoft")
DEEP = branch(CUSTOM)
for _ in range(20):
    DEEP = branch(helper.make_node("If", ["c"], ["out"], then_branch=DEEP, else_branch=branch()))
SPARSE = helper.make_sparse_tensor(
    external(), helper.make_tensor("i", TensorProto.INT64, [1], [0]), [4]
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add(CUSTOM), "operator 'Gelu' of domain 'com.microsoft'"),
        (add(helper.make_node("If", ["c"], ["o"], then_branch=DEEP)), "domain 'com.microsoft'"),
        (add(helper.make_node("X\x1b[2J", [], ["o"], domain="a\nb")), r"'X\\x1b\[2J' of domain"),
        (add(helper.make_node("Loop", ["m"], ["o"], body=branch())), "has a 'Loop'"),
        (
            add(
                helper.make_node(
                    "If", ["c"], ["o"], then_branch=branch(helper.make_node("Scan", [], ["o"]))
                )
            ),
            "has a 'Scan'",
        ),
        (
            lambda m: m.functions.append(
                helper.make_function("", "Add", ["a"], ["b"], [], m.opset_import)
            ),
            "functions of its own",
        ),
        (lambda m: m.training_info.add(), "training info of its own"),
        (lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3), "imports .* 'ai.onnx.ml'"),
        (lambda m: setattr(m.opset_import[0], "version", 19), "opset 19, the manifest says 18"),
        (lambda m: m.graph.initializer.append(external()), "tensor in another file"),
        (lambda m: m.graph.sparse_initializer.append(SPARSE), "tensor in another file"),
        (add(helper.make_node("Constant", [], ["c"], value=external())), "in another file"),
        (add(helper.make_node("Constant", [], ["c"], sparse_value=SPARSE)), "in another file"),
        (add(helper.make_node("Constant", [], ["c"], list=[external()])), "in another file"),
        (
            add(helper.make_node("If", ["c"], ["o"], b=branch(initializers=[external()]))),
            "in another file",
        ),
        (
            lambda m: m.graph.initializer.append(TensorProto(name="w", dims=[1 << 40])),
            "larger than the file",
        ),
        (lambda m: m.graph.initializer.append(TensorProto(dims=[-1])), "larger than the file"),
        (lambda m: m.graph.initializer.append(TensorProto(dims=[2] * 17)), "larger than the file"),
        (add(*[helper.make_node("Neg", ["a"], ["b"])] * 20_001), "more than 20000 nodes"),
    ],
)
def test_a_graph_that_could_do_more_than_compute_is_refused(
    folder: Path, change: Callable[[Any], object], message: str
) -> None:
    with_graph(folder, change)
    refused(folder, rf"update\.onnx: .*{message}.*; do not use this bundle")


def test_subgraphs_without_end_are_refused(folder: Path) -> None:
    inner = b""
    for _ in range(200):  # a graph with a node with an attribute with a graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + _varint(len(inner)) + inner
    (folder / "update.onnx").write_bytes(b"\x3a" + _varint(len(inner)) + inner)
    seal(folder)
    refused(folder, r"update\.onnx: not an ONNX graph")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_an_operator_that_nobody_knows_is_refused(folder: Path) -> None:
    with_graph(folder, add(helper.make_node("Frobnicate", ["state"], ["g"])))
    with pytest.raises(BundleError, match=r"update\.onnx: ONNX Runtime .* cannot load it"):
        Model(Bundle.load(folder), "cpu")


def test_what_stands_in_a_bundle_cannot_write_on_a_terminal(folder: Path) -> None:
    with_graph(folder, add(helper.make_node("\x1b[2J\x07", ["state"], ["g"])))
    with pytest.raises(BundleError, match=r"\\x1b\[2J") as caught:
        Model(Bundle.load(folder), "cpu")
    assert str(caught.value).isprintable()
    seal(folder, lambda fields: fields.update({"\x1b[2J\n": 1}))
    with pytest.raises(BundleError, match="unknown field") as caught:
        read_manifest(folder)
    assert str(caught.value).isprintable()


def test_the_messages_are_those_of_onnx() -> None:
    for name, fields in looked_at.MESSAGES.items():
        theirs = getattr(onnx, name).DESCRIPTOR
        for field_name, (number, kind, repeated) in fields.items():
            field = theirs.fields_by_name[field_name]
            assert field.number == number
            assert field.is_repeated == repeated
            if kind.endswith("Proto"):
                assert field.message_type.name == kind
    # Whatever else holds nodes or tensors would go unseen.
    carriers = {"GraphProto", "NodeProto", "TensorProto", "SparseTensorProto", "FunctionProto"}
    for name in ("ModelProto", "GraphProto", "NodeProto", "AttributeProto", "SparseTensorProto"):
        for field in getattr(onnx, name).DESCRIPTOR.fields:
            if field.message_type is not None and field.message_type.name in carriers:
                assert field.name in looked_at.MESSAGES[name]


def test_a_replay_that_takes_too_long_is_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3_000
    names = ["next_state", *(f"n{number}" for number in range(count))]

    def slow(model: Any) -> None:
        last = model.graph.node[-1]
        last.output[0] = names[-1]
        for made, used in pairwise(names):
            model.graph.node.append(helper.make_node("Sin", [used], [made]))
        nodes = list(model.graph.node)
        model.graph.ClearField("node")
        model.graph.node.extend([*nodes[:-count], *reversed(nodes[-count:])])

    with_graph(folder, slow)
    monkeypatch.setattr(running, "REPLAY_LIMIT_S", 0.0)
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be replayed"):
        Model(Bundle.load(folder), "cpu")


# -- claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": 10**12}, r"claims a state of \d+, 1000000000000 items"),
        ({"items": 50_000_000, "embedding_dim": 128}, "16 GiB of item vectors"),
        ({"embedding_dim": 10**9}, "1000000000 dimensions"),
        ({"state": {"size": 2**62, "storage": "int8"}}, "claims a state of"),
        ({"items": 10**30}, "items"),
        ({"golden": {"file": "golden.npz", "tolerance": 1e9}}, "tolerance"),
        ({"additive": {"sums": [{"half_life_s": 1, "share": 1}] * 65, "strength": 1}}, "64"),
        ({"training": {"x": "y" * (1 << 20)}}, "larger than 1048576 bytes"),
    ],
)
def test_a_manifest_of_absurd_claims_is_refused(folder: Path, change: Fields, message: str) -> None:
    seal(folder, lambda fields: fields.update(change))
    refused(folder, rf"manifest\.json: .*{message}")


def test_files_that_the_format_does_not_know_are_refused(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"x")
    assert Bundle.load(folder)  # it only lies there: nobody opens it
    seal(folder, lambda fields: fields["files"].update({"weights.bin": "0" * 64}))
    refused(folder, "files that format 1 does not know")


def archive(name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        made.writestr(name, content)
    return target.getvalue()


def npy(shape: str, dtype: str = "<f4", content: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    "content",
    [
        archive("embeddings.npy", npy("(1000000000000,)")),
        archive("embeddings.npy", npy("(-1,)")),
        archive("embeddings.npy", npy("(1,)", "|O", b"\x80\x04N.")),
        archive("embeddings.npy", npy("(" * 4000)),
        archive("embeddings.npy", npy("()", "|V0")),
        archive("embeddings.npy", b"\x80\x04N."),
        archive("embeddings.npy", npy("(1,)", content=b"1234"), zipfile.ZIP_BZIP2),
        archive("../../embeddings.npy", npy("(1,)", content=b"1234")),
    ],
    ids=["huge", "negative", "object", "nested", "void", "pickle", "bzip2", "path"],
)
def test_an_archive_that_is_none_of_ours_is_refused(folder: Path, content: bytes) -> None:
    (folder / "items.npz").write_bytes(content)
    seal(folder)
    refused(folder, r"items\.npz")


@pytest.mark.parametrize("name", ["items.npz", "golden.npz"])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(archive("states.npy", bytes(300 << 20)))
    seal(folder)
    refused(folder, rf"{name}: not a plain NumPy archive \(314572800 bytes unpacked are too many")


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_link_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    refused(folder, rf"{name}: leads out of the bundle's folder")


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    # This is how Kubernetes mounts a volume.
    shutil.copytree(folder, folder / "..data")
    for name in (*FILES, MANIFEST):
        (folder / name).unlink()
        (folder / name).symlink_to(Path("..data") / name)
    (folder.parent / "link").symlink_to(folder)
    assert Bundle.load(folder.parent / "link")


@pytest.mark.parametrize("name", ["items.npz", MANIFEST])
def test_what_is_no_plain_file_is_refused_at_once(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, rf"{name}: not a plain file")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refused(folder, rf"{name}: cannot be read")


def test_a_file_without_end_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.MAX_FILE_BYTES, "items.npz", 1000)
    refused(folder, r"items\.npz: larger than 1000 bytes")
    with (folder / MANIFEST).open("r+") as file:
        file.truncate(1 << 40)  # a hole: nothing on disk
    refused(folder, "manifest.json: larger than")


def test_a_tampered_bundle_never_ends_or_hangs_the_process() -> None:
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_bundles", "--cases", "150"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0, f"{time.monotonic() - started_s:.0f} s: {done.stdout[-2000:]}"
    counts = json.loads(last)
    assert counts["refused"] > 100
    assert counts["loaded"] > 3  # changes that matter to nobody
    assert done.stderr == ""


def test_a_manifest_can_be_shown_whatever_its_texts_hold(folder: Path) -> None:
    seal(folder, lambda fields: fields.update(name="\x1b[2J%s{0}\n"))
    assert read_manifest(folder).name == "\x1b[2J%s{0}\n"
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", "bundle", "show", str(folder)],
        capture_output=True,
        check=True,
    )
    assert b"\x1b" not in done.stdout


def test_a_socket_collected_while_an_archive_is_read_is_nobody_s_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    real = np.lib.format.read_magic

    def read_magic(head: Any) -> Any:
        socket.socket()  # left to the collector, as kafka-python leaves a refused connection's
        return real(head)

    monkeypatch.setattr(np.lib.format, "read_magic", read_magic)
    Bundle.load(folder)
    assert not unraisable


def test_an_archive_of_plain_arrays_reads_as_numpy_reads_it(folder: Path) -> None:
    from stream.core.archive import read_arrays

    for name in ("items.npz", "golden.npz"):
        found = read_arrays(folder / name, (folder / name).read_bytes(), 1 << 30, "")
        with np.load(folder / name, allow_pickle=False) as wanted:
            assert sorted(found) == sorted(wanted.files)
            for key, values in found.items():
                np.testing.assert_array_equal(values, wanted[key])
                assert values.dtype == wanted[key].dtype
