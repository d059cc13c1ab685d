"""One request's way: picture → shape → file, with a cache key for each of the two steps. Knows no Flask.

The *shape* is the model's mesh, keyed on the decoded pixels, the model with its revision, and only those parameters
that the model reads. The *file* is that shape finished and exported, keyed on the shape's key and everything that
finishing reads. So another format, size or face count of a known picture is a conversion, never a generation.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import images
import meshes
from cache_manager import LRUCache
from jobs import Delivery, Job, JobFailedError, Outcome, Upload
from models.base import (
    Cancelled,
    EmptyImageError,
    GenerationCancelledError,
    Mesh,
    Model,
    ModelUnavailableError,
    Progress,
    ShapeOptions,
)
from result_cache import ResultCache
from schemas import GenerateBody, RequestError, bad_field
from storage import Storage

_MODEL_SHARE = (0.15, 0.85)
"""Where the model's own progress lies in that of the whole job."""


@dataclass(frozen=True, slots=True)
class File:
    """A cached result: immutable bytes that the cache owns, and what was measured on them."""

    data: bytes
    mesh: dict[str, Any]

    @property
    def size_mb(self) -> float:
        """What it holds, in MB (10^6 bytes); the dict of a few numbers is noise beside the mesh."""
        return len(self.data) / 1e6


class Generation:
    """Makes shapes with one model and files from them, each at most once as long as the cache holds them."""

    def __init__(self, model: Model, cache: ResultCache, storage: Storage, max_pixels: int) -> None:
        self.model, self.cache, self._storage, self._max_pixels = model, cache, storage, max_pixels
        self._costs = LRUCache(max_size=20_000, max_memory_mb=8.0)
        """Seconds that the making of each shape and file took, to say what a hit has saved."""
        self._one_at_a_time: contextlib.AbstractContextManager[Any] = (
            contextlib.nullcontext() if model.thread_safe else threading.Lock()
        )

    def shape_key(self, job: Job, body: GenerateBody) -> str:
        """Key of the shape."""
        options = {"quality": body.quality, "seed": body.seed, "prompt": body.prompt}
        read = {name: value for name, value in options.items() if name in self.model.reads}
        # A mask of the user's own decides alone what is the object.
        background = ("mask", job.mask) if job.mask else (body.remove_background, images.FOREGROUND_REVISION)
        return "shape:" + _digest([job.upload.sha256, self.model.id, self.model.revision, background, read])

    def file_key(self, shape_key: str, body: GenerateBody) -> str:
        """Key of the file made from that shape."""
        return "file:" + _digest(
            [shape_key, body.format, body.dimensions.model_dump(), body.fit, body.target_faces, body.scale]
        )

    def run_key(self, job: Job, body: GenerateBody) -> str | None:
        """What makes two requests under way identical; None when every request has to generate."""
        return self.file_key(self.shape_key(job, body), body) if self.cache.enabled else None

    def cached(self, job: Job, body: GenerateBody) -> Outcome | None:
        """The answer without the model, converted if need be; None when a shape has to be made."""
        shape_key = self.shape_key(job, body)
        if self.file_key(shape_key, body) not in self.cache and shape_key not in self.cache:
            return None
        try:
            with known_failures():
                return self._produce(job, body, _no_shape)
        except _NoShapeError:  # evicted since the look above
            return None

    def generate(self, job: Job, body: GenerateBody, progress: Progress, cancelled: Cancelled) -> Outcome:
        """The whole way, for a worker; raises JobFailedError for what a user must know, GenerationCancelledError."""
        while True:
            try:
                with known_failures():
                    return self._produce(job, body, lambda: self._make_shape(job, body, progress, cancelled), progress)
            except (GenerationCancelledError, _NoShapeError):
                # It may be the end of another request's flight that this one had joined: then it is this one's turn.
                if cancelled():
                    raise

    def convert(self, job: Job, body: GenerateBody, shape_key: str) -> Outcome:
        """A finished job's shape as `body` wants it, from the cache or from where it is stored."""

        def stored_shape() -> bytes:
            shape = self._storage.shape(shape_key)
            if shape is None and shape_key == self.shape_key(job, body):
                shape = self._make_shape(job, body, lambda fraction, stage: None, lambda: False)
            if shape is None:
                raise JobFailedError("shape_lost", "the shape came from another model and is lost: start the job again")
            return shape

        with known_failures():
            return self._produce(job, body, stored_shape, shape_key=shape_key)

    def _produce(
        self,
        job: Job,
        body: GenerateBody,
        make_shape: Callable[[], bytes],
        progress: Progress = lambda fraction, stage: None,
        *,
        shape_key: str | None = None,
    ) -> Outcome:
        started, timings, made = time.perf_counter(), dict[str, float](), []
        key = shape_key or self.shape_key(job, body)

        def shape() -> bytes:
            with _timed(timings, "shape"):
                data = make_shape()
            made.append(key)
            return data

        def file() -> File:
            packed = self.cache.get_or_compute(key, shape)
            with _timed(timings, "export"):
                progress(_MODEL_SHARE[1], "export")
                made_file = make_file(Mesh.from_bytes(packed), body)
            self._costs.set(file_key, timings["export"])
            return made_file

        file_key = self.file_key(key, body)
        result = self.cache.get_or_compute(file_key, file)
        if not self._storage.has_shape(key) and (packed := self.cache.peek(key)):
            self._storage.save_shape(key, packed)  # its last job was forgotten; this one may want another format
        timings["total"] = round(time.perf_counter() - started, 4)
        usual = sum(self._costs.get(part, 0.0) for part in (key, file_key))
        delivery = Delivery(
            filename="",
            file_size=len(result.data),
            etag=file_key.rpartition(":")[2],
            shape_key=key,
            model=self.model.id,
            model_note=self.model.note,
            cached=not made,
            mesh=result.mesh,
            timings=timings,
            seconds_saved=0.0 if made else round(max(0.0, usual - timings["total"]), 4),
        )
        return Outcome(result.data, delivery)

    def _make_shape(self, job: Job, body: GenerateBody, progress: Progress, cancelled: Cancelled) -> bytes:
        def step(fraction: float, stage: str) -> None:
            if cancelled():
                raise GenerationCancelledError
            progress(fraction, stage)

        started = time.perf_counter()
        low, high = _MODEL_SHARE
        step(0.0, "decode")
        picture = _picture(self._storage, job, self._max_pixels)
        step(0.03, "foreground")
        cut_out = _cut_out(self._storage, job, picture, body.remove_background)
        step(low, "shape")
        options = ShapeOptions(body.quality, body.seed, body.prompt)
        with self._one_at_a_time:
            mesh = self.model.generate(
                cut_out, options, lambda fraction, stage: step(low + (high - low) * fraction, stage), cancelled
            )
        packed = mesh.to_bytes()
        self._storage.save_shape(self.shape_key(job, body), packed)
        self._costs.set(self.shape_key(job, body), time.perf_counter() - started)
        return packed


def make_file(mesh: Mesh, body: GenerateBody) -> File:
    """Finish a shape as the request wants it and export it; the report is measured on what is delivered."""
    sides = body.dimensions
    dimensions = meshes.Dimensions(sides.width, sides.height, sides.depth)
    finished = meshes.finish(mesh, dimensions=dimensions, fit=body.fit, target_faces=body.target_faces)
    if body.scale == "unit":
        finished = _unit_scaled(finished, body.format)
    return File(meshes.export(finished, body.format), meshes.measure(finished).as_dict())


def receive(data: bytes, max_pixels: int) -> Upload:
    """Check an uploaded picture and note what is worth knowing once its pixels are gone; RequestError 413, 415."""
    picture = _decoded(data, max_pixels)
    empty = {}
    for background in get_args(images.Background):
        try:
            images.check_not_empty(picture.rgba, background)
        except EmptyImageError as error:
            empty[background] = str(error)
    info = {
        "width": picture.width,
        "height": picture.height,
        "size": [picture.width, picture.height],
        "format": picture.format,
        "mode": picture.mode,
        "has_transparency": picture.has_transparency,
        "file_size": len(data),
    }
    return Upload(
        extension=picture.format.lower(),
        original_filename="",
        sha256=picture.sha256,
        image_info=info,
        empty=empty,
    )


def receive_mask(data: bytes, job: Job, max_pixels: int) -> tuple[str, bytes]:
    """Check a mask for a job's picture: its SHA-256 and the PNG to keep; RequestError 400, 413, 415, 422.

    White or opaque is the object. Any size will do that has the picture's proportions.
    """
    mask = _decoded(data, max_pixels)
    alpha = mask.rgba[..., 3] if mask.has_transparency else mask.rgba[..., 0]
    width, height = job.upload.image_info["width"], job.upload.image_info["height"]
    if abs(mask.width * height - mask.height * width) > max(width, height) * max(mask.width, mask.height) * 0.01:
        raise bad_field("mask", f"must have the proportions of the picture, {width} × {height}")
    if not alpha.any():
        raise RequestError(422, "empty_image", "the mask is empty", {"mask": "is empty"})
    return hashlib.sha256(f"{alpha.shape}".encode() + alpha.tobytes()).hexdigest(), _png(alpha)


def mask_png(storage: Storage, job: Job, background: images.Background, max_pixels: int) -> bytes:
    """What of a job's picture is taken for the object: an 8-bit grey PNG of the picture's size."""
    picture = _picture(storage, job, max_pixels)
    return _png(_cut_out(storage, job, picture, background)[..., 3])


def _decoded(data: bytes, max_pixels: int) -> images.Picture:
    try:
        return images.decode(data, max_pixels)
    except images.ImageTooLargeError as error:
        raise RequestError(413, "too_large", str(error), {"image": str(error)}) from error
    except images.NotAnImageError as error:
        raise RequestError(415, "not_an_image", str(error), {"image": str(error)}) from error


def _png(grey: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _picture(storage: Storage, job: Job, max_pixels: int) -> images.Picture:
    try:
        data = storage.upload(job.picture_name).read_bytes()
    except FileNotFoundError as error:
        raise JobFailedError("upload_lost", "the uploaded picture is gone: upload it again") from error
    return images.decode(data, max_pixels)


def _cut_out(storage: Storage, job: Job, picture: images.Picture, background: images.Background) -> images.Pixels:
    """The picture with the object's mask as alpha: the user's own mask, or what the server finds."""
    if job.mask is None:
        return images.foreground(picture.rgba, background)
    with Image.open(storage.mask(job.id)) as mask:
        return images.with_mask(picture.rgba, np.asarray(mask.convert("L")))


def _unit_scaled(mesh: Mesh, file_format: str) -> Mesh:
    """Centred on the origin with the longest side from −1 to 1 in the file's own unit (GLB: metres, others: mm)."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    scale = (2000 if file_format == "glb" else 2) / (high - low).max()
    return replace(mesh, vertices=((mesh.vertices - (low + high) / 2) * scale).astype("float32"))


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = round(time.perf_counter() - started, 4)


class _NoShapeError(Exception):
    """The request thread must not run the model."""


def _no_shape() -> bytes:
    raise _NoShapeError


@contextlib.contextmanager
def known_failures() -> Iterator[None]:
    """Turn what a user can act on into JobFailedError; the rest is logged by the queue as a fault."""
    try:
        yield
    except (EmptyImageError, images.NotAnImageError, images.ImageTooLargeError) as error:
        raise JobFailedError(
            "empty_image" if isinstance(error, EmptyImageError) else "bad_image", str(error)
        ) from error
    except meshes.EmptyMeshError as error:
        raise JobFailedError("empty_mesh", str(error)) from error
    except ModelUnavailableError as error:
        raise JobFailedError("model_unavailable", str(error)) from error
    except OSError as error:
        raise JobFailedError("storage", f"a file could not be read or written: {error.strerror}") from error
    except Exception as error:
        # torch.cuda.OutOfMemoryError by name, as torch may not be there at all
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise JobFailedError("out_of_memory", "out of memory: lower the quality, or free the GPU") from error
        raise
