"""What a route takes and what may go wrong in it, noted beside its code; `openapi.py` makes the description from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesh.formats import FORMATS

MODEL_TYPES = tuple(each.mime for each in FORMATS.values())
"""MIME types of the files that are made."""

RouteView = Callable[..., Any]
"""Wider than Flask's own type: `responses.JsonFlask` also takes the models in `answers`."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Names of models in `schemas.py`, codes of `errors.py`; the answer is the view's return annotation."""

    query: str = ""
    body: str = ""
    """Of JSON."""
    form: str = ""
    """Of a multipart form."""
    upload: tuple[str, ...] = ()
    """MIME types of a body that is a picture."""
    download: tuple[str, ...] = ()
    """MIME types of an answer of no model in `answers.py`."""
    errors: tuple[str, ...] = ()
    """Of this route alone: what the guard and the framework refuse on any route is added to them."""
    statuses: tuple[int, ...] = (200,)


def operation(**facts: Any) -> Callable[[RouteView], RouteView]:
    """Note on a view what `Operation` says."""

    def note(view: RouteView) -> RouteView:
        view.operation = Operation(**facts)  # type: ignore[attr-defined]
        return view

    return note
