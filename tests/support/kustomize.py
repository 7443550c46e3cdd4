"""Kubernetes manifests as kustomize renders them, for machines without it. In: an overlay's folder.

Knows what `deploy/kubernetes` uses and refuses the rest: resources, components, namespace, images,
a ConfigMap of files, patches in the form of JSON Patch. It is held against `kubectl kustomize`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where there is one, ten times as fast
_KNOWN = {
    *("apiVersion", "kind", "namespace", "resources", "components"),
    *("configMapGenerator", "images", "patches"),
}


def documents(file: Path) -> list[Manifest]:
    """The manifests of a file."""
    return [one for one in yaml.load_all(file.read_text(encoding="utf-8"), LOADER) if one]


def render(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize FOLDER` prints, in any order, without hashes in ConfigMaps' names."""
    return _apply(folder, [])


def render_with(base: Path, *components: Path) -> list[Manifest]:
    """What a kustomization of this base and these components would be."""
    made = render(base)
    for component in components:
        made = _apply(component, made)
    return made


def _apply(folder: Path, given: list[Manifest]) -> list[Manifest]:
    (asked,) = documents(folder / "kustomization.yaml")
    if more := set(asked) - _KNOWN:
        raise ValueError(f"{folder}: not known here: {sorted(more)}")
    made = list(given)
    for name in asked.get("resources", []):
        place = folder / name
        made += render(place) if place.is_dir() else documents(place)
    for asked_map in asked.get("configMapGenerator", []):
        made.append(_config_map(folder, **asked_map))
    for name in asked.get("components", []):
        made = _apply(folder / name, made)
    for patch in asked.get("patches", []):
        target = patch["target"]
        (hit,) = [
            one
            for one in made
            if one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"]
        ]
        for operation in yaml.safe_load(patch["patch"]):
            _operate(hit, operation)
    for one in made if "namespace" in asked else []:
        if one["kind"] != "Namespace":
            one["metadata"]["namespace"] = asked["namespace"]
    for image in asked.get("images", []):
        for container in [part for one in made for part in containers(one)]:
            name, _, tag = container["image"].partition(":")
            if name == image["name"]:
                tag = image.get("newTag", tag)
                container["image"] = f"{image.get('newName', name)}:{tag}"
    return made


def _config_map(
    folder: Path, name: str, files: list[str], options: Manifest | None = None
) -> Manifest:
    """A ConfigMap of files, by their names without folders; they must not lie above `folder`."""
    places = {Path(file).name: (folder / file).resolve() for file in files}
    if above := [file for file in places.values() if not file.is_relative_to(folder.resolve())]:
        raise ValueError(f"kustomize reads no file above {folder}: {above}")
    metadata: Manifest = {"name": name}
    options = dict(options or {})
    options.pop("disableNameSuffixHash", None)  # no name has its hash here
    if "labels" in options:
        metadata["labels"] = options.pop("labels")
    if options:
        raise ValueError(f"not known here: {options}")
    data = {key: file.read_text(encoding="utf-8") for key, file in places.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def containers(manifest: Manifest) -> Iterator[Manifest]:
    """The containers of what holds a pod's template, those of its start too."""
    spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
    yield from spec.get("initContainers", [])
    yield from spec.get("containers", [])


def _operate(manifest: Manifest, operation: Manifest) -> None:
    """One operation of JSON Patch (RFC 6902), in place."""
    *way, last = (
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    )
    place: Any = manifest
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if operation["op"] == "add" and isinstance(place, list) and last == "-":
        place.append(operation["value"])
    elif operation["op"] in ("add", "replace") and isinstance(place, dict):
        if operation["op"] == "replace" and last not in place:
            raise ValueError(f"nothing to replace: {operation['path']}")
        place[last] = operation["value"]
    elif operation["op"] == "remove" and isinstance(place, dict):
        del place[last]
    else:
        raise ValueError(f"not known here: {operation}")


def without_hashes(text: str) -> str:
    """`text` with ConfigMaps' names as they stand in the kustomization."""
    return re.sub(r"\b(freshet-settings)-[a-z0-9]{10}\b", r"\1", text)
