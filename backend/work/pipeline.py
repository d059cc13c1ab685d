"""The work on one request: cut-out → shape → file, each step from the cache, from a flight under way, or made.

Every step is booked in the cache with its own seconds, not with those of the steps that it had to wait for. Knows no
job and no queue: a request, its plan and a loaded model are all it needs, in whichever process.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from errors import (
    BadShapeError,
    GenerationCancelledError,
    OrfeasError,
    OutOfMemoryError,
    ShapeLostError,
    UploadLostError,
)
from mesh.finish import finish
from mesh.formats import FORMATS
from mesh.mesh import Mesh
from mesh.report import measure
from mesh.writers import export
from models.base import Cancelled, Model, ShapeOptions
from picture import cutout
from picture.decode import Picture, Pixels, check_not_empty, decode, hidden_share, is_cut_out
from store.files import Files
from store.filesystem import storage_error
from store.made import Made
from store.results import Results
from work.plan import Plan, cutout_key, file_key
from work.request import Outcome, Reporter, Request, Silence, Wishes

_MODEL_SHARE = (0.15, 0.85)
"""Where the model's own progress lies in that of the whole run."""

_cutting = threading.BoundedSemaphore(2)
"""A picture of 50 megapixels takes some 400 MB while its object is looked for."""


class Pipeline:
    """Makes each cut-out, shape and file at most once as long as the cache holds it.

    `look` and `keep` are the server's own ways to ask the cache and to store in it.
    """

    def __init__(
        self,
        results: Results,
        files: Files,
        max_pixels: int,
        look: Callable[[str], Made | None],
        keep: Callable[[str, Made, float], None],
    ) -> None:
        self._results, self._files, self._max_pixels = results, files, max_pixels
        self._look, self._keep = look, keep

    def known(self, plan: Plan, wishes: Wishes) -> Outcome | None:
        """The answer without the model, converted if need be; None when a shape has to be made."""
        started = time.perf_counter()
        if (file := self._results.find(plan.file)) is not None:
            total = time.perf_counter() - started
            saved = round(max(0.0, sum(file.seconds.values()) - total), 4)
            return Outcome(file, plan.file, plan.shape, True, {"total": round(total, 4)}, saved)
        if plan.shape not in self._results:
            return None
        try:
            return self._outcome(plan.shape, plan.file, wishes, lambda: self._cached_shape(plan.shape))
        except ShapeLostError:  # evicted since the look above
            return None

    def make(self, request: Request, plan: Plan, model: Model, progress: Reporter, cancelled: Cancelled) -> Outcome:
        """Make what is missing; OrfeasError for what a user must know, GenerationCancelledError."""
        while True:
            run = _Run(self._results, self._files, self._max_pixels, request, progress, cancelled)
            try:
                outcome = self._outcome(plan.shape, plan.file, request.wishes, partial(run.shape, plan, model), run)
                return replace(outcome, note=model.note)
            except GenerationCancelledError:
                # It may be the end of another run's flight that this one had joined: then it is this one's turn.
                if cancelled() or run.led:
                    raise

    def convert(self, shape_key: str, content: str | None, sources: tuple[str, ...], wishes: Wishes) -> Outcome:
        """A finished job's shape in another format; ShapeLostError when it is neither cached nor kept for the job.

        `content` is its SHA-256, where it was kept, `sources` those of the pictures that it was made of.
        """
        key = file_key(shape_key, wishes)
        return self._outcome(shape_key, key, wishes, lambda: self._kept_shape(shape_key, content, sources))

    def mask(self, request: Request) -> bytes:
        """What of the front picture is taken for the object: an 8-bit grey PNG of the picture's size."""
        with known_failures(), _cutting:
            run = _Run(self._results, self._files, self._max_pixels, request, Silence(), lambda: False)
            found = run.found_mask("front", cutout_key(request, "front"))
            return cutout.mask_png(run.cut_out("front")[..., 3]) if found is None else found.data

    def _outcome(
        self, shape_key: str, key: str, wishes: Wishes, shape: Callable[[], Made], run: _Run | None = None
    ) -> Outcome:
        started, timings = time.perf_counter(), run.timings if run else {}
        used: list[Made] = []

        def file() -> Made:
            packed = shape()
            used.append(packed)
            if run:
                run.progress(_MODEL_SHARE[1], "export")
            with _timed(timings, "export"):
                mesh = (run and run.mesh) or Mesh.from_bytes(packed.data)
                data, report = make_file(mesh, wishes)
            own = timings["export"]
            return _made(data, {**packed.seconds, "export": own}, own, packed.sources, report, packed.sha256)

        with known_failures():
            found = self._results.get_or_compute(key, file)
        total = time.perf_counter() - started
        skipped = sum(seconds for step, seconds in found.seconds.items() if step not in timings)
        saved = max(0.0, skipped - max(0.0, total - sum(timings.values())))
        told = {**timings, "total": round(total, 4)}
        cached = "shape" not in timings
        return Outcome(found, key, shape_key, cached, told, round(saved, 4), shape=used[0] if used else None)

    def _cached_shape(self, key: str) -> Made:
        shape = self._look(key)
        if shape is None:
            raise ShapeLostError
        return shape

    def _kept_shape(self, key: str, content: str | None, sources: tuple[str, ...]) -> Made:
        shape = self._look(key)
        if shape is None:
            data = self._files.blobs.read(content) if content else None
            if data is None:
                raise ShapeLostError
            shape = _made(data, {}, 0.0, sources)
            self._keep(key, shape, shape.size_mb)
        return shape


class _Run:
    """One way from pictures to a shape; decodes each picture at most once."""

    def __init__(
        self,
        results: Results,
        files: Files,
        max_pixels: int,
        request: Request,
        progress: Reporter,
        cancelled: Cancelled,
    ) -> None:
        self._results, self._files, self._max_pixels = results, files, max_pixels
        self._request, self.progress, self._cancelled = request, progress, cancelled
        self._decoded: dict[str, Picture] = {}
        self.timings: dict[str, float] = {}
        self.mesh: Mesh | None = None
        """The shape, if it was made here."""
        self.led = False
        """Whether the model was asked here, and not by another run."""

    def shape(self, plan: Plan, model: Model) -> Made:
        """The shape, made if it is not known."""
        return self._results.get_or_compute(plan.shape, lambda: self._make_shape(plan, model))

    def found_mask(self, view: str, key: str) -> Made | None:
        """The object that was looked for in a picture; None where a mask is given, by the user or by the file."""
        if view == "front" and self._request.mask is not None:
            return None
        hidden, background = self._request.pictures[view].hidden, self._request.wishes.remove_background
        if hidden is None:
            hidden = hidden_share(self._picture(view).rgba)
        if is_cut_out(hidden, background):
            return None

        def find() -> Made:
            self.progress(0.03, "foreground")
            with _timed(self.timings, "cutout"):
                alpha = cutout.foreground(self._picture(view).rgba, background)[..., 3]
                png = cutout.mask_png(alpha)
            own = self.timings["cutout"]
            return _made(png, {"cutout": own}, own, (self._request.pictures[view].sha256,))

        return self._results.get_or_compute(key, find)

    def cut_out(self, view: str, found: Made | None = None) -> Pixels:
        """(H,W,4) the picture with the object's mask as alpha."""
        rgba = self._picture(view).rgba
        if found is not None:
            return cutout.with_mask(rgba, cutout.read_mask(found.data))
        if view == "front" and self._request.mask is not None:
            return cutout.with_mask(rgba, self._own_mask(self._request.mask))
        check_not_empty(rgba, self._request.wishes.remove_background)
        return rgba

    def _make_shape(self, plan: Plan, model: Model) -> Made:
        low, high = _MODEL_SHARE
        self.progress(0.0, "decode")
        masks = {view: self.found_mask(view, key) for view, key in plan.cutouts.items()}
        with _timed(self.timings, "shape"):
            pictures = {view: self.cut_out(view, found) for view, found in masks.items()}
            front, wishes = pictures.pop("front", None), self._request.wishes
            self.progress(low, "shape")
            options = ShapeOptions(wishes.quality, wishes.seed, wishes.prompt, pictures)
            self.led = True
            self.mesh = model.generate(front, options, self.progress.within(low, high), self._cancelled)
            if not isinstance(self.mesh, Mesh):
                raise BadShapeError(f"the model returned {type(self.mesh).__name__} and no mesh")
            self.mesh.check()
            data = self.mesh.to_bytes()
        own = self.timings["shape"]
        looked_for = sum(found.own_seconds for found in masks.values() if found)
        sources = tuple(self._request.pictures[view].sha256 for view in plan.cutouts)
        return _made(data, {"cutout": looked_for, "shape": own} if looked_for else {"shape": own}, own, sources)

    def _picture(self, view: str) -> Picture:
        if view not in self._decoded:
            picture = self._request.pictures[view]
            try:
                data = (self._files.uploads_dir / picture.name).read_bytes()
            except FileNotFoundError as error:
                raise UploadLostError from error
            if picture.file_sha256 not in (None, hashlib.sha256(data).hexdigest()):
                raise UploadLostError("the uploaded picture was changed on disk: upload it again")
            self._decoded[view] = decode(data, self._max_pixels)
        return self._decoded[view]

    def _own_mask(self, digest: str) -> Pixels:
        try:
            mask = cutout.read_mask(self._files.mask(self._request.job_id, digest).read_bytes())
        except FileNotFoundError as error:
            raise UploadLostError("the mask of this picture is gone: send it again") from error
        if cutout.mask_digest(mask) != digest:
            raise UploadLostError("the mask of this picture was changed on disk: send it again")
        return mask


def make_file(mesh: Mesh, wishes: Wishes) -> tuple[bytes, dict[str, Any]]:
    """Finish a shape as the request wants it and export it; the report is measured on what is delivered.

    Of a mesh of `scale` unit the report speaks in the file's own unit.
    """
    finished = finish(mesh, dimensions=wishes.dimensions, fit=wishes.fit, target_faces=wishes.target_faces)
    if wishes.scale == "unit":
        finished = _unit_scaled(finished)
    report = measure(finished).as_dict()
    if wishes.scale == "unit" and FORMATS[wishes.format].metres:
        finished = replace(finished, vertices=finished.vertices * np.float32(1000))  # the writer divides again
    return export(finished, wishes.format), report


def _unit_scaled(mesh: Mesh) -> Mesh:
    """Centred on the origin with the longest side from −1 to 1."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    vertices = (mesh.vertices - (low + high) / 2) * (2 / (high - low).max())
    return replace(mesh, vertices=vertices.astype(np.float32))


def _made(
    data: bytes,
    seconds: dict[str, float],
    own: float,
    sources: tuple[str, ...],
    report: dict[str, Any] | None = None,
    shape: str | None = None,
) -> Made:
    return Made(data, hashlib.sha256(data).hexdigest(), len(data) / 1e6, seconds, own, sources, report, shape)


@contextlib.contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = round(timings.get(name, 0.0) + time.perf_counter() - started, 4)


@contextlib.contextmanager
def known_failures() -> Iterator[None]:
    """Turn what a user can act on into an OrfeasError; the rest is logged by the queue as a fault."""
    try:
        yield
    except OrfeasError:
        raise
    except OSError as error:
        raise storage_error(error) from error
    except Exception as error:
        # torch.cuda.OutOfMemoryError by name, as torch may not be there at all
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise OutOfMemoryError("out of memory: lower the quality, or free the GPU") from error
        raise
