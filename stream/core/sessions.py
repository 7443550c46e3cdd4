"""Open a bundle's graphs in ONNX Runtime. In: verified bytes, a provider. Out: checked sessions.

Refuses to go on with a CPU when CUDA was asked for. Native messages stay off stderr: what matters
in them is raised. Must not know: item tables, states, Kafka.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
from typing import Any, Literal

import onnxruntime as ort

from stream.core.bundle import (
    CONTENT,
    SCORE,
    SCORE_CUDA,
    UPDATE,
    UPDATE_CUDA,
    Bundle,
    Content,
)
from stream.core.weighing import EVENT_CODES, FADING_RATES, TYPE_WEIGHTS
from stream.errors import BundleError, ProviderError

log = logging.getLogger(__name__)

_UPDATE_INPUTS = {
    "state": ("tensor(float)", 2),
    "item_table": ("tensor(float)", 2),
    "item_row": ("tensor(int64)", 1),
    "event_type": ("tensor(int64)", 1),
    "gap_s": ("tensor(float)", 1),
}
_WEIGHTS_INPUTS = {
    TYPE_WEIGHTS: ("tensor(float)", 1),
    FADING_RATES: ("tensor(float)", 1),
}
_SCORE_INPUTS = {
    "state": ("tensor(float)", 2),
    "item_table": ("tensor(float)", 2),
    "bias": ("tensor(float)", 1),
    "excluded": ("tensor(int64)", 2),
    "beta": ("tensor(float)", 1),
    "k": ("tensor(int64)", 1),
}
_RECENT_INPUTS = {"recent_rows": ("tensor(int64)", 2), "recent_types": ("tensor(int64)", 2)}
_CONTENT_INPUTS = {
    "feature_ids": ("tensor(int64)", 2),
    "feature_values": ("tensor(float)", 2),
}


def open_content(bundle: Bundle, content: Content) -> Any:
    """The session of the content graph, on the CPU: a few items at a time, once each.

    Raises
    ------
    BundleError : the graph does not load or has another signature
    """
    session = _session(bundle, CONTENT, content.onnx, "cpu", 1)
    _check_signature(bundle, CONTENT, session, _CONTENT_INPUTS, ["vector"])
    return session


def open_sessions(
    bundle: Bundle, asked: str, threads: int
) -> tuple[Literal["cpu", "cuda"], Any, Any]:
    """The provider, and the sessions of the update and the score graph on it.

    Parameters
    ----------
    asked : "auto" takes CUDA when a device is there and works; "cpu"; "cuda" takes nothing else
    threads : of a session on the CPU

    Raises
    ------
    ProviderError
        CUDA was asked for and does not work here.
    BundleError
        A graph does not load or has another signature.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise ProviderError(f"provider {asked!r} is not one of auto, cpu, cuda")
    missing = None if asked == "cpu" else _cuda_missing()
    if asked == "cuda" and missing is not None:
        raise ProviderError(
            f"CUDA was asked for and does not work here: {missing}; or set the provider to cpu"
        )
    if asked == "cuda" or (asked == "auto" and missing is None):
        try:
            return ("cuda", *_graphs(bundle, "cuda", threads))
        except ProviderError as error:
            if asked == "cuda":
                raise
            log.warning("a CUDA device is there but is not used: %s", error)
    return ("cpu", *_graphs(bundle, "cpu", threads))


def wanted_provider(asked: str) -> Literal["cpu", "cuda"]:
    """What `asked` hopes for: "auto" for CUDA where NVIDIA's driver is, working or not."""
    return "cuda" if asked == "cuda" or (asked == "auto" and _driver() is not None) else "cpu"


def _graphs(bundle: Bundle, provider: str, threads: int) -> tuple[Any, Any]:
    names, graphs = (UPDATE, SCORE), (bundle.update_onnx, bundle.score_onnx)
    if provider == "cuda" and bundle.manifest.item_storage != "float32":
        if bundle.cuda_onnx is None:
            raise ProviderError(
                f"{bundle.path}: has {bundle.manifest.item_storage} items and no graphs for CUDA; "
                "compress the float32 bundle again without --cpu-only, or set the provider to cpu"
            )
        names, graphs = (UPDATE_CUDA, SCORE_CUDA), bundle.cuda_onnx
    update, score = (
        _session(bundle, name, graph, provider, threads)
        for name, graph in zip(names, graphs, strict=True)
    )
    table, columns = _table_inputs(bundle, provider)
    update_inputs = _UPDATE_INPUTS | table
    update_inputs |= _WEIGHTS_INPUTS if bundle.manifest.live_weights else {}
    _check_signature(bundle, names[0], update, update_inputs, ["next_state"])
    score_inputs = _SCORE_INPUTS | table | columns
    score_inputs |= _RECENT_INPUTS if bundle.manifest.recent else {}
    _check_signature(bundle, names[1], score, score_inputs, ["rows", "scores"])
    return update, score


Inputs = dict[str, tuple[str, int]]


def _table_inputs(bundle: Bundle, provider: str) -> tuple[Inputs, Inputs]:
    """A packed item table's, see `table.py`: of both graphs, and of the score graph alone."""
    storage = bundle.manifest.item_storage
    if storage == "int8":
        both = {"item_table": ("tensor(int8)", 2), "item_scale": ("tensor(float)", 1)}
        return both, {"item_columns": ("tensor(int8)", 2)}
    if storage == "float16" and provider == "cuda":
        return {"item_table": ("tensor(float16)", 2)}, {}
    return {}, {}


def _cuda_missing() -> str | None:
    """What is missing for CUDA, or None. Asks the driver: ONNX Runtime lists CUDA without one."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this ONNX Runtime was built without CUDA; install onnxruntime-gpu"
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver (libcuda.so.1 cannot be loaded); install the driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return "the NVIDIA driver does not initialise; look at `nvidia-smi`"
    if count.value == 0:
        return "the driver sees no device; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    return None


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _session(bundle: Bundle, name: str, graph: bytes, provider: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, not printed
    wanted: list[Any] = ["CPUExecutionProvider"]
    if provider == "cuda":
        # Full float32: TF32 products would be off by more than the golden tolerance.
        wanted.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()
    ort.set_default_logger_severity(4)
    try:
        # Its fallback prints; on the CPU there is nothing to fall back to.
        fallback = int(provider == "cuda")
        session = ort.InferenceSession(graph, options, providers=wanted, enable_fallback=fallback)
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise BundleError(
            f"{bundle.path / name}: ONNX Runtime {ort.__version__} cannot load it "
            f"({brief(error)}); make the bundle again, or upgrade onnxruntime"
        ) from None
    finally:
        ort.set_default_logger_severity(3)
    if provider == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise ProviderError(
            "CUDA was asked for, but ONNX Runtime could not start it: CUDA or cuDNN libraries for "
            f"onnxruntime-gpu {ort.__version__} are missing; install onnxruntime-gpu[cuda,cudnn], "
            "or set the provider to cpu"
        )
    return session


def _check_signature(
    bundle: Bundle,
    name: str,
    session: Any,
    inputs: dict[str, tuple[str, int]],
    outputs: list[str],
) -> None:
    manifest = bundle.manifest
    found = {i.name: (i.type, len(i.shape)) for i in session.get_inputs()}
    if found != inputs or [o.name for o in session.get_outputs()] != outputs:
        raise BundleError(
            f"{bundle.path / name}: inputs or outputs are not those of format {manifest.format} "
            f"with recent {manifest.recent}, {manifest.item_storage} items and live_weights "
            f"{str(manifest.live_weights).lower()}; make the bundle again with `freshet-export "
            "train`"
        )
    widths = {"state": manifest.state.size}
    widths |= dict.fromkeys(("item_table", "item_columns"), manifest.embedding_dim)
    widths |= dict.fromkeys(_RECENT_INPUTS, manifest.recent)
    widths |= {TYPE_WEIGHTS: EVENT_CODES, FADING_RATES: len(manifest.fading_s)}
    for tensor in session.get_inputs():
        width = tensor.shape[0 if tensor.name == "item_columns" else -1]
        if isinstance(width, int) and width != widths.get(tensor.name, width):
            raise BundleError(
                f"{bundle.path / name}: {tensor.name} is {width} wide, the manifest says "
                f"{widths[tensor.name]}; make the bundle again with `freshet-export train`"
            )


def brief(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
