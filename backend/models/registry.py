"""Which models there are: id → class, imported when it is first needed. Adding a model is one line."""

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


def ids() -> tuple[str, ...]:
    """Every id, in the order in which they were added."""
    return tuple(_MODELS)


def model_class(model_id: str) -> type[Model]:
    """The class; ValueError names the known ids, ImportError says why it cannot be imported here."""
    if model_id not in _MODELS:
        raise ValueError(f"there is no model {model_id!r}; there are: {', '.join(_MODELS)}")
    entry = _MODELS[model_id]
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
        _MODELS[model_id] = entry
    return entry


def create(model_id: str, path: Path | None, device: str) -> Model:
    """A model that is not loaded yet; errors as those of `model_class`."""
    return model_class(model_id)(path, device)


def describe(model_id: str, path: Path | None) -> dict[str, Any]:
    """What the model is, and why it cannot be loaded here with weights at `path` (None: none)."""
    try:
        model = model_class(model_id)
    except ImportError as error:  # one broken model must not hide the others
        unimportable = f"it cannot be imported: {error}"
        return {"available": False, "reason": unimportable, "licence": None, "reads": [], "memory_mb": 0}
    reason = model.why_unavailable(path)
    return {
        "available": reason is None,
        "reason": reason,
        "licence": model.licence,
        "reads": sorted(model.reads),
        "memory_mb": model.memory_mb,
    }
