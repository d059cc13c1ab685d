"""The models of one server: loaded on first use or at the start, several at once, unloaded when nobody uses them.

A model that was loaded once keeps its revision when it is unloaded, so that what the caches hold of it can still be
found. A model that could not be loaded is tried again, but not by every request: its reason stands for a while.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from errors import LoadingError, ModelNotReadyError, ModelUnavailableError, RequestError
from models import registry
from models.base import Model

RETRY_SECONDS = 30.0
"""A model that could not be loaded is not tried again before."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What keys and answers need of a model, whether it is loaded at this moment or not."""

    id: str
    revision: str | None
    """None: it was never loaded."""
    reads: frozenset[str]
    needs_image: bool
    thread_safe: bool
    note: str | None = None
    device: str | None = None


@dataclass(eq=False, slots=True)
class _Place:
    """One model's place on the shelf."""

    id: str
    loading: threading.Lock = field(default_factory=threading.Lock)
    model: Model | None = None
    known: Known | None = None
    """As it was when it was loaded last."""
    reason: str | None = None
    """Why it could not be loaded when it was tried last."""
    tried: float = 0.0
    users: int = 0
    used: float = 0.0


class Shelf:
    """Owns every loaded model. `candidates`: the models that may be the default, the best first."""

    def __init__(
        self,
        candidates: tuple[str, ...],
        paths: Mapping[str, Path],
        device: str,
        *,
        idle_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._candidates, self._paths, self._device = candidates, dict(paths), device
        self._idle_seconds, self._clock = idle_seconds, clock
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._closed = threading.Event()
        self.default: str | None = None
        """The model of requests that name none; None until one was loaded."""
        self.not_ready_reason: str | None = None
        """Why the wanted model is not the default one."""
        if idle_seconds:
            threading.Thread(target=self._watch, name="idle-models", daemon=True).start()

    # ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def load_default(self) -> None:
        """Load the first candidate that can be loaded; the reasons of those before it are kept."""
        reasons = []
        for model_id in dict.fromkeys(self._candidates):
            try:
                with self.use(model_id):
                    self.default = model_id
            except (ModelUnavailableError, RequestError) as error:
                log.error("model %s could not be loaded: %s", model_id, error)
                reasons.append(f"{model_id}: {error}")
            if self.default:
                break
        self.not_ready_reason = "; ".join(reasons) or None

    @contextlib.contextmanager
    def use(self, model_id: str) -> Iterator[Model]:
        """The model, loaded if need be, and not unloaded within the body. RequestError, ModelUnavailableError."""
        place = self._place(model_id)
        with self._lock:
            place.users += 1
        try:
            with place.loading:
                model = place.model or self._load(place)
            yield model
        finally:
            with self._lock:
                place.users -= 1
                place.used = self._clock()

    def _place(self, model_id: str) -> _Place:
        if (place := self._places.get(model_id)) is not None:
            return place
        if model_id not in registry.ids():
            message = f"there is no model {model_id!r}; there are: {', '.join(registry.ids())}"
            raise RequestError(f"model: {message}", {"model": message})
        with self._lock:
            return self._places.setdefault(model_id, _Place(model_id))

    def _load(self, place: _Place) -> Model:
        try:
            model = registry.create(place.id, self._paths.get(place.id), self._device)
            model.load()
        except (Exception, SystemExit) as error:
            known = isinstance(error, ModelUnavailableError)
            if not known:
                log.error("model %s could not be loaded", place.id, exc_info=error)
            first_line = str(error).strip().partition("\n")[0]
            place.reason = str(error) if known else f"{type(error).__name__}: {first_line}".rstrip(": ")
            place.tried = self._clock()
            raise ModelUnavailableError(place.reason) from error
        place.known = Known(
            place.id, model.revision, model.reads, model.needs_image, model.thread_safe, model.note, model.device
        )
        place.model, place.reason = model, None
        return model

    # ── unloading ────────────────────────────────────────────────────────────────────────────────────────────────

    def unload_idle(self) -> list[str]:
        """Unload what nobody has used for as long as the setting says; their ids."""
        with self._lock:
            idle = [
                place
                for place in self._places.values()
                if place.model and not place.users and self._clock() - place.used >= self._idle_seconds
            ]
        return [place.id for place in idle if self._unload(place)]

    def _unload(self, place: _Place) -> bool:
        with place.loading:
            with self._lock:
                if place.users or place.model is None:  # somebody came meanwhile
                    return False
                model, place.model = place.model, None
            try:
                model.unload()
            except Exception:
                log.exception("model %s could not be unloaded", place.id)
        log.info("model %s was unloaded", place.id)
        return True

    def _watch(self) -> None:
        while not self._closed.wait(min(self._idle_seconds / 4, 30.0)):
            self.unload_idle()

    def close(self) -> None:
        """Unload everything."""
        self._closed.set()
        for place in list(self._places.values()):
            self._unload(place)

    # ── knowing ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def status(self) -> Literal["loading", "ready", "not_ready"]:
        """loading, ready or not_ready: of the default model."""
        return "ready" if self.default else "not_ready" if self.not_ready_reason else "loading"

    def chosen(self, wanted: str | None) -> Known:
        """The model that a request gets: the one it names, else the default.

        RequestError for an unknown or unavailable one, with the list and the reasons; LoadingError, ModelNotReadyError.
        """
        if wanted is None and self.default is None:
            if self.not_ready_reason:
                raise ModelNotReadyError(f"no model is ready: {self.not_ready_reason}")
            raise LoadingError("the model is still loading", {"retry_after": 2})
        model_id = wanted or self.default or ""
        place = self._places.get(model_id)
        if (place is None or place.model is None) and (reason := self._why_not(model_id)) is not None:
            listed = "; ".join(f"{each}: {self._why_not(each) or 'available'}" for each in registry.ids())
            message = f"{reason} ({listed})"
            raise RequestError(f"model: {message}", {"model": message})
        return (place and place.known) or self.known(model_id)

    def known(self, model_id: str) -> Known:
        """What is known of a model; RequestError when there is none of that id."""
        place = self._place(model_id)
        if place.known is not None:
            return place.known
        kind = registry.model_class(model_id)
        return Known(model_id, None, kind.reads, kind.needs_image, kind.thread_safe)

    def _why_not(self, model_id: str) -> str | None:
        if model_id not in registry.ids():
            return f"there is no model {model_id!r}"
        place = self._place(model_id)
        if place.model is not None:
            return None
        if place.reason is not None and self._clock() - place.tried < RETRY_SECONDS:
            return place.reason
        reason: str | None = registry.describe(model_id, self._paths.get(model_id))["reason"]
        return reason

    def rows(self) -> list[dict[str, Any]]:
        """A row for each model: what it is, whether it is loaded, and why it cannot be."""
        return [self._row(model_id) for model_id in registry.ids()]

    def _row(self, model_id: str) -> dict[str, Any]:
        place = self._place(model_id)
        reason = self._why_not(model_id)
        return {
            "id": model_id,
            "loaded": place.model is not None,
            **registry.describe(model_id, self._paths.get(model_id)),
            "available": reason is None,
            "reason": reason,
            "revision": place.known and place.known.revision,
            "note": place.known and place.known.note,
        }

    @property
    def device(self) -> str:
        """Where the default model runs, or what was asked for."""
        known = self._places[self.default].known if self.default else None
        return (known and known.device) or self._device

    def gpu_info(self) -> dict[str, Any] | None:
        """The GPU in use; None without one, and while no model is loaded: torch may be in the middle of its import."""
        torch = sys.modules.get("torch")
        if torch is None or not any(place.model for place in list(self._places.values())):
            return None
        try:
            if not torch.cuda.is_available():
                return None
            free, total = torch.cuda.mem_get_info()
            return {
                "name": torch.cuda.get_device_name(),
                "allocated_mb": torch.cuda.memory_allocated() / 1e6,
                "free_mb": free / 1e6,
                "total_mb": total / 1e6,
            }
        except Exception as error:  # half imported by another model, or a driver that has failed: health answers anyway
            log.debug("the GPU cannot be asked: %s", error)
            return None
