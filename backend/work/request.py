"""What is asked, frozen when it is asked: pictures, the user's mask and the wishes, with their limits and defaults; and
what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from errors import EmptyImageError, bad_field
from mesh.formats import Dimensions, Fit
from picture import Background
from store.made import Made

Scale = Literal["mm", "unit"]

LEAST_QUALITY, MOST_QUALITY = 1, 10
MOST_SEED = 2**32 - 1
MOST_PROMPT = 2000
"""Characters."""
LEAST_SIDE_MM, MOST_SIDE_MM = 0.001, 100_000.0
"""From a micrometre: reports tell lengths to a tenth of it."""
LEAST_FACES, MOST_FACES = 4, 5_000_000


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a shape and its file are wanted."""

    format: str = "stl"
    quality: int = 7
    dimensions: Dimensions = field(default_factory=Dimensions)
    fit: Fit = "contain"
    prompt: str = ""
    seed: int = 0
    scale: Scale = "mm"
    """`unit`: centred, the longest side from −1 to 1 in the file's own unit."""
    target_faces: int | None = None
    remove_background: Background = "auto"
    model: str | None = None
    """None: the server's default."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One uploaded picture: where its bytes lie, and what is known of them."""

    name: str
    """Of the upload's file."""
    original_filename: str
    extension: str
    sha256: str
    """Of the decoded pixels."""
    image_info: Mapping[str, Any]
    empty: Mapping[str, str]
    """For each choice of background removal that finds nothing in it at a glance: what is seen."""
    hidden: float | None
    """The share that its alpha channel hides; None: not known."""
    file_sha256: str | None = None
    """Of the file's bytes; None: not known."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one job asks for. Data alone: it names its pictures and its mask by content, so that any process that can
    read the uploads may work on it."""

    job_id: str
    pictures: Mapping[str, Picture]
    """By view; `front` is missing only where a prompt stands alone."""
    mask: str | None
    """SHA-256 of the user's own mask of the front; None: the object is searched for."""
    wishes: Wishes
    model: str
    """The id of the model that makes the shape."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request comes to: the file, and the facts that every job of the run delivers."""

    file: Made
    file_key: str
    shape_key: str
    cached: bool
    """Whether the shape was there already."""
    timings: Mapping[str, float]
    seconds_saved: float
    """What the steps that did not have to be run took when they were, less what else this answer took."""
    note: str | None = None
    """What a user should know of how the model ran."""
    shape: Made | None = None
    """The shape, where it was at hand."""


class Reporter(Protocol):
    """Hears of a run's progress; it may raise GenerationCancelledError."""

    def __call__(self, fraction: float, stage: str) -> None:
        """A stage begins, at that fraction of the whole, from 0 to 1."""

    def within(self, low: float, high: float) -> Reporter:
        """One whose 0 to 1 lie between these two of the whole."""


class Silence:
    """A `Reporter` for work that nobody watches."""

    def __call__(self, fraction: float, stage: str) -> None:
        """Tell nobody."""

    def within(self, low: float, high: float) -> Reporter:
        """Itself."""
        return self


def check_possible(request: Request, reads: frozenset[str], needs_image: bool) -> None:
    """Refuse what is seen at a glance to come to nothing."""
    front = request.pictures.get("front")
    if front is None:
        if request.pictures or needs_image:
            raise bad_field("front", "is missing: the model needs a picture of the front")
        if not request.wishes.prompt:
            raise bad_field("prompt", "is missing: there is no picture either")
    elif "image" in reads and (reason := front.empty.get(request.wishes.remove_background)):
        raise EmptyImageError(reason, {"image": reason})
