"""What a route takes and what may go wrong in it, noted beside its code; `openapi.py` makes the description from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    upload: str = ""
    """MIME type of a body that is a picture."""
    download: str = ""
    """MIME type of an answer that is no JSON."""
    errors: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)


def operation(**facts: Any) -> Callable[[RouteView], RouteView]:
    """Note on a view what `Operation` says."""

    def note(view: RouteView) -> RouteView:
        view.operation = Operation(**facts)  # type: ignore[attr-defined]
        return view

    return note
