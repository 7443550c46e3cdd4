"""The bundle: loaded, run, and where it lies. In: settings. Out: findings."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stream.cli import ends_at_once
from stream.cli.examining.finding import Finding, size
from stream.config import Settings
from stream.errors import BundleError, ProviderError, SettingsError

_FULL_BYTES = 1 << 30


def examine_bundle(settings: Settings, origins: Mapping[str, str]) -> Iterator[Finding]:
    """Load the bundle and run it; imports the model runtime, so it comes last.

    Parameters
    ----------
    origins : TOML path -> where it was given; what is not there is a default
    """
    if settings.bundle is None:
        cure = "set FRESHET_BUNDLE to a folder that `freshet-export train` wrote"
        yield Finding("bundle", "fault", "none is set, and the worker needs one", cure)
        yield Finding("provider", "skip", "needs the bundle")
        yield Finding("disk", "skip", "needs the bundle")
        return
    yield from _run(settings, settings.bundle, origins)
    yield _disk(Path(settings.bundle))


def _run(settings: Settings, folder: str, origins: Mapping[str, str]) -> Iterator[Finding]:
    with ends_at_once():
        import onnxruntime

        from stream.core.bundle import Bundle
        from stream.core.model import Model
        from stream.core.weighing import Weighing

    runtime = {
        "onnxruntime": onnxruntime.__version__,
        "available": onnxruntime.get_available_providers(),
        "asked_for": settings.provider,
    }
    began_s = time.monotonic()
    try:
        bundle = Bundle.load(folder)
    except BundleError as error:
        yield Finding("bundle", "fault", str(error))
        yield Finding("provider", "skip", "needs the bundle", facts=runtime)
        return
    manifest = bundle.manifest
    name = f"{manifest.name} {bundle.bundle_id[:12]}, {manifest.items - 1} items"
    facts: dict[str, Any] = {
        "id": bundle.bundle_id,
        "name": manifest.name,
        "model": manifest.model,
        "items": manifest.items - 1,
        "opset": manifest.opset,
        "created": manifest.created,
        "state": msgspec.to_builtins(manifest.state),
        "golden": None,
    }
    try:
        model = Model(bundle, settings.provider)
    except ProviderError as error:
        detail = f"{name}; its golden sequences need the provider"
        yield Finding("bundle", "skip", detail, facts=facts)
        yield Finding("provider", "fault", str(error), facts=runtime)
    except BundleError as error:
        yield Finding("bundle", "fault", str(error), facts={**facts, "golden": False})
        yield Finding("provider", "skip", "needs the bundle", facts=runtime)
    else:
        took_s = time.monotonic() - began_s
        facts |= {"golden": True, "load_s": round(took_s, 3)}
        detail = f"{name}, {manifest.model}, opset {manifest.opset}, golden sequences agree"
        try:
            Weighing.of(manifest, settings.weights, lambda at: origins.get(at, at))
        except SettingsError as error:
            yield Finding("bundle", "fault", str(error), facts=facts)
        else:
            yield Finding("bundle", "ok", detail, facts=facts)
        used = f"{model.provider} (asked for: {settings.provider})"
        more = (f"ONNX Runtime {runtime['onnxruntime']} has {', '.join(runtime['available'])}",)
        facts = {**runtime, "provider": model.provider}
        yield Finding("provider", "ok", used, more=more, facts=facts)


def _disk(folder: Path) -> Finding:
    try:
        taken = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "skip", f"{folder} cannot be looked at ({error.strerror})")
    facts = {"folder": str(folder.resolve()), "bundle_bytes": taken, "free_bytes": free}
    detail = f"the bundle takes {size(taken)}, {size(free)} are free beside it"
    return Finding("disk", "note" if free < _FULL_BYTES else "ok", detail, facts=facts)
