"""Kustomize's part that `deploy/kubernetes` uses, so that overlays are checked as composed on every machine.

Strict: what is not known here is refused, and a patch that meets nothing as well. A test compares it with kubectl's own
kustomize where that is installed.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

_FIELDS = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
_CLUSTER_WIDE = {"Namespace"}


def compose(folder: Path) -> list[Object]:
    """The objects that a folder with a kustomization gives. Raises `ValueError` for what kustomize would not do."""
    text = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(text) - _FIELDS:
        raise ValueError(f"{folder}: fields that are not known here: {unknown}")
    objects: list[Object] = []
    for name in text["resources"]:
        path = folder / name
        found = compose(path) if path.is_dir() else [one for one in yaml.safe_load_all(path.read_text()) if one]
        objects += copy.deepcopy(found)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    if len(set(names)) != len(names):
        raise ValueError(f"{folder}: an object is there twice: {names}")
    if namespace := text.get("namespace"):
        for one in objects:
            if one["kind"] not in _CLUSTER_WIDE:
                one["metadata"]["namespace"] = namespace
    for patch in text.get("patches", []):
        _patch(objects, patch)
    for image in text.get("images", []):
        _name_image(objects, image)
    return objects


def pods(objects: list[Object]) -> dict[str, Object]:
    """The template of each pod, by kind and name of what makes it."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["spec"]["template"]
        for one in objects
        if one["kind"] in {"Deployment", "Job", "StatefulSet", "DaemonSet"}
    }


def _patch(objects: list[Object], patch: Object) -> None:
    if set(patch) != {"target", "patch"}:
        raise ValueError(f"a patch of another form: {patch}")
    target = patch["target"]
    if set(target) != {"kind", "name"}:
        raise ValueError(f"a target of another form: {target}")
    met = [one for one in objects if one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"]]
    if not met:
        raise ValueError(f"a patch meets nothing: {target}")
    for one in met:
        for step in yaml.safe_load(patch["patch"]):
            _apply(one, step)


def _apply(one: Object, step: Object) -> None:
    """RFC 6902, for paths through objects and lists."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].lstrip("/").split("/")]
    place: Any = one
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if isinstance(place, list):
        if step["op"] != "add":
            raise ValueError(f"not known here: {step}")
        place.insert(len(place) if last == "-" else int(last), step["value"])
    elif step["op"] == "add":
        place[last] = step["value"]
    elif last not in place:
        raise ValueError(f"nothing is at {step['path']}")
    elif step["op"] == "remove":
        del place[last]
    elif step["op"] == "replace":
        place[last] = step["value"]
    else:
        raise ValueError(f"not known here: {step}")


def _name_image(objects: list[Object], image: Object) -> None:
    if set(image) - {"name", "newName", "newTag", "digest"}:
        raise ValueError(f"an image of another form: {image}")
    for template in pods(objects).values():
        for container in template["spec"]["containers"]:
            if container["image"].partition(":")[0] == image["name"]:
                end = f"@{image['digest']}" if "digest" in image else f":{image['newTag']}"
                container["image"] = image["newName"] + end
