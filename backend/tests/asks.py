"""Pictures and requests as the house has them, for tests that need no server."""

from __future__ import annotations

import numpy as np

from mesh.formats import Dimensions
from work.request import Made, Outcome, Picture, Request, Wishes


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


def outcome(*, cached=False, data=b"file") -> Outcome:
    return Outcome(Made(data, {}, 0.0, len(data) / 1e6, {}), "file:1", "shape:1", cached, {}, 0.0)


def ellipse(size=(96, 128), colour=(200, 60, 30), on=(255, 255, 255)):
    """(H,W,3) an object that is easily told from its background."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    inside = ((x - width / 2) / (width * 0.35)) ** 2 + ((y - height / 2) / (height * 0.35)) ** 2 < 1
    return np.where(inside[..., None], colour, on).astype(np.uint8)
