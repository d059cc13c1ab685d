"""Every error that a user may see, each with its code.

OrfeasError                     internal            a fault of ours; the log says more
├─ RequestError                 bad_request         the request cannot be served as it stands
│  ├─ NotFoundError             not_found
│  ├─ MethodNotAllowedError     method_not_allowed  the route is there, for other methods
│  ├─ RangeError                requested_range_not_satisfiable
│  ├─ UnauthorizedError         unauthorized
│  ├─ ForbiddenHostError        forbidden_host
│  ├─ ForbiddenOriginError      forbidden_origin
│  ├─ NotOfferedError           not_offered         a documented wish that no model here can meet
│  └─ RateLimitedError          rate_limited
├─ PictureError                                     the picture cannot be used
│  ├─ NotAnImageError           not_an_image
│  ├─ TooLargeError             too_large           too many bytes or pixels
│  └─ EmptyImageError           empty_image         nothing in it to make a shape of
├─ JobError                                         the job is not in the state that the request needs
│  ├─ JobBusyError              job_busy
│  ├─ JobCancelledError         cancelled
│  ├─ ShapeLostError            shape_lost          its shape has to be made again
│  ├─ ResultEvictedError        result_evicted      its result had to make room and has to be made again
│  └─ UploadLostError           upload_lost         its picture is gone: there is nothing to make it from
├─ UnavailableError                                 not now, or not here
│  ├─ LoadingError              loading
│  ├─ ModelNotReadyError        model_not_ready     no model could be loaded
│  ├─ ModelUnavailableError     model_unavailable   the model cannot be loaded here
│  ├─ QueueFullError            queue_full
│  ├─ BusyError                 busy                too many requests wait for their result
│  ├─ JobInterruptedError       interrupted         the server ended in the middle of the job, twice
│  └─ StoppedError              stopped             the server is shutting down
└─ WorkError                                        a run failed
   ├─ EmptyMeshError            empty_mesh
   ├─ BadShapeError             bad_shape           the model returned what is no mesh
   ├─ OutOfMemoryError          out_of_memory
   ├─ DiskFullError             disk_full           no room for the result, whatever was deleted
   └─ StorageError              storage             a file could not be read or written

`DataFolderError` stops the start and has no code. `GenerationCancelledError` is no fault of anybody. What a code is in
HTTP stands in `web/responses.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class OrfeasError(Exception):
    """A fault of ours; the log says more.

    The text is for people, `code` for programs; `details` maps a field to what is wrong with it, or holds facts.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        text = message or (type(self).__doc__ or "").partition("\n")[0].rstrip(".")
        super().__init__(text if message else text[:1].lower() + text[1:])
        self.details = dict(details or {})


class RequestError(OrfeasError):
    """The request cannot be served as it stands."""

    code = "bad_request"


class NotFoundError(RequestError):
    """There is no such thing."""

    code = "not_found"


class MethodNotAllowedError(RequestError):
    """The route is there, but not for that method."""

    code = "method_not_allowed"


class RangeError(RequestError):
    """The range lies outside the file."""

    code = "requested_range_not_satisfiable"


class UnauthorizedError(RequestError):
    """An API key is needed: Authorization: Bearer … or X-API-Key."""

    code = "unauthorized"


class ForbiddenHostError(RequestError):
    """This server does not answer to that host name."""

    code = "forbidden_host"


class ForbiddenOriginError(RequestError):
    """Pages of other sites may not change anything here."""

    code = "forbidden_origin"


class NotOfferedError(RequestError):
    """No model here can do that."""

    code = "not_offered"


class RateLimitedError(RequestError):
    """Too many requests."""

    code = "rate_limited"


class PictureError(OrfeasError):
    """The picture cannot be used."""


class NotAnImageError(PictureError):
    """The bytes are no picture of a known format, or a damaged one."""

    code = "not_an_image"


class TooLargeError(PictureError):
    """More bytes or pixels than allowed, or than fit in memory."""

    code = "too_large"


class EmptyImageError(PictureError):
    """The picture holds nothing to make a shape of; the text says what was seen."""

    code = "empty_image"

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, details)
        self.details = self.details or {"image": str(self)}


class JobError(OrfeasError):
    """The job is not in the state that the request needs."""


class JobBusyError(JobError):
    """The job is already waiting or running."""

    code = "job_busy"


class JobCancelledError(JobError):
    """The job was cancelled."""

    code = "cancelled"


class ShapeLostError(JobError):
    """The shape is no longer kept: start the job again with POST /api/generate-3d and its job_id."""

    code = "shape_lost"


class ResultEvictedError(JobError):
    """The result had to make room: start the job again with POST /api/generate-3d and its job_id."""

    code = "result_evicted"


class UploadLostError(JobError):
    """The uploaded picture is gone: upload it again."""

    code = "upload_lost"


class UnavailableError(OrfeasError):
    """Not now, or not here."""


class LoadingError(UnavailableError):
    """The model is still loading."""

    code = "loading"


class ModelNotReadyError(UnavailableError):
    """No model is ready."""

    code = "model_not_ready"


class ModelUnavailableError(UnavailableError):
    """The model cannot be loaded here; the text tells a user why and what is missing."""

    code = "model_unavailable"


class QueueFullError(UnavailableError):
    """Too many jobs are waiting."""

    code = "queue_full"


class BusyError(UnavailableError):
    """Too many requests wait for their result."""

    code = "busy"


class JobInterruptedError(UnavailableError):
    """The server ended in the middle of this job, and again when it was run once more; start it again."""

    code = "interrupted"


class StoppedError(UnavailableError):
    """The server is shutting down."""

    code = "stopped"


class WorkError(OrfeasError):
    """A run failed."""


class EmptyMeshError(WorkError):
    """Nothing with a surface is left of the mesh."""

    code = "empty_mesh"


class BadShapeError(WorkError):
    """The model returned what is no mesh."""

    code = "bad_shape"


class OutOfMemoryError(WorkError):
    """Out of memory: lower the quality, or free the GPU."""

    code = "out_of_memory"


class DiskFullError(WorkError):
    """The disk is full: delete jobs, or files of your own; the next request may work."""

    code = "disk_full"


class StorageError(WorkError):
    """A file could not be read or written."""

    code = "storage"


class DataFolderError(Exception):
    """The data folder cannot be used; the text is one line for the terminal."""


class GenerationCancelledError(Exception):
    """Raised by a model that saw `cancelled()` turn true."""


def codes() -> dict[str, type[OrfeasError]]:
    """Every code of the tree above, with the class that gives it its meaning."""
    found: dict[str, type[OrfeasError]] = {}
    waiting: list[type[OrfeasError]] = [OrfeasError]
    while waiting:
        kind = waiting.pop(0)
        if "code" in vars(kind) and kind.__module__ == __name__:
            found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found


def bad_field(field: str, message: str) -> RequestError:
    """A RequestError that names one field."""
    return RequestError(f"{field}: {message}", {field: message})
