"""The keys of one request: cut-outs, shape, file. Each says all that its step reads, and nothing else.

A *cut-out* is the object's mask in a picture: keyed on the decoded pixels and on who decides what the object is. The
*shape* is the model's mesh: the cut-outs that the model reads, the model with its revision, and those parameters that
it reads. The *file* is that shape finished and exported: the shape's key and everything that finishing reads. So
another format, size or face count of a known picture is a conversion, never a generation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from picture import CUTOUT_REVISION
from work.request import Request, Wishes


@dataclass(frozen=True, slots=True)
class Plan:
    """The keys, computed once for each request."""

    revision: str
    """Of the model."""
    cutouts: Mapping[str, str]
    """By view, of those that the model reads."""
    shape: str
    file: str


def plan(request: Request, revision: str, reads: frozenset[str]) -> Plan:
    """The keys of a request to a model of that revision, which reads those things."""
    wishes = request.wishes
    cutouts = {
        view: cutout_key(request, view)
        for view in request.pictures
        if "image" in reads and (view == "front" or "views" in reads)
    }
    options = {"quality": wishes.quality, "seed": wishes.seed, "prompt": wishes.prompt}
    read = {name: value for name, value in options.items() if name in reads}
    shape = "shape:" + digest([cutouts, request.model, revision, read])
    return Plan(revision, cutouts, shape, file_key(shape, wishes))


def cutout_key(request: Request, view: str) -> str:
    """Key of what is taken for the object in one of the pictures."""
    # A mask of the user's own decides alone.
    own = request.mask if view == "front" else None
    decides = ["mask", own] if own else [request.wishes.remove_background, CUTOUT_REVISION]
    return "cutout:" + digest([request.pictures[view].sha256, decides])


def file_key(shape_key: str, wishes: Wishes) -> str:
    """Key of the file made from that shape."""
    return "file:" + digest(
        [shape_key, wishes.format, asdict(wishes.dimensions), wishes.fit, wishes.target_faces, wishes.scale]
    )


def digest(parts: list[Any]) -> str:
    """SHA-256 of the parts as canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
