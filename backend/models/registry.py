"""Which models there are: id → class, what is available here, and why the rest is not. Adding a model is one line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from models.base import Model

_MODELS: dict[str, str | type[Model]] = {
    "builtin": "models.builtin.model:BuiltinModel",
}


def register(model_id: str, model: str | type[Model]) -> None:
    """Add a class, or `"module:Class"` to be imported when it is first needed."""
    _MODELS[model_id] = model


def create(model_id: str, path: Path | None, device: str) -> Model:
    """A model that is not loaded yet; ValueError names the known ids."""
    if model_id not in _MODELS:
        raise ValueError(f"there is no model {model_id!r}; there are: {', '.join(_MODELS)}")
    return _class(model_id)(path, device)


def available(path: Path | None) -> list[dict[str, Any]]:
    """A row for each model: what it is, and why it cannot be loaded here with weights at `path` (None: none)."""
    return [_row(model_id, path) for model_id in _MODELS]


def _row(model_id: str, path: Path | None) -> dict[str, Any]:
    try:
        model = _class(model_id)
    except ImportError as error:  # one broken model must not hide the others
        return {"id": model_id, "available": False, "reason": f"it cannot be imported: {error}"}
    reason = model.why_unavailable(path)
    return {
        "id": model_id,
        "available": reason is None,
        "reason": reason,
        "licence": model.licence,
        "reads": sorted(model.reads),
        "memory_mb": model.memory_mb,
    }


def _class(model_id: str) -> type[Model]:
    entry = _MODELS[model_id]
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        loaded: type[Model] = getattr(importlib.import_module(module), name)
        return loaded
    return entry
