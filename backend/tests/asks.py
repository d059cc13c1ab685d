"""Pictures and requests as the house has them, for tests that need no server."""

from __future__ import annotations

import hashlib

import numpy as np

from mesh.formats import Dimensions
from store.made import Made
from work.request import Outcome, Picture, Request, Wishes


def picture(number=1, *, name=None, hidden=0.5, view="front", **facts) -> Picture:
    """`number` stands for its pixels."""
    return Picture(
        name=name or f"job.{view}.png",
        original_filename="a.png",
        extension="png",
        sha256=f"{number:064x}",
        **{"image_info": {"width": 96, "height": 128}, "empty": {}, **facts},
        hidden=hidden,
    )


def request(model="m", *, job_id="job", pictures=None, mask=None, **wishes) -> Request:
    if isinstance(wishes.get("dimensions"), dict):
        wishes["dimensions"] = Dimensions(**wishes["dimensions"])
    return Request(job_id, {"front": picture()} if pictures is None else pictures, mask, Wishes(**wishes), model)


def made(data=b"value", own_seconds=1.0, sources=(), *, seconds=None, **facts) -> Made:
    """As the pipeline makes it."""
    digest = hashlib.sha256(data).hexdigest()
    return Made(data, digest, len(data) / 1e6, seconds or {}, own_seconds, tuple(sources), **facts)


def outcome(*, cached=False, data=b"file") -> Outcome:
    return Outcome(made(data), "file:1", "shape:1", cached, {}, 0.0)


def ellipse(size=(96, 128), colour=(200, 60, 30), on=(255, 255, 255)):
    """(H,W,3) an object that is easily told from its background."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    inside = ((x - width / 2) / (width * 0.35)) ** 2 + ((y - height / 2) / (height * 0.35)) ** 2 < 1
    return np.where(inside[..., None], colour, on).astype(np.uint8)
