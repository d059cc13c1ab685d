"""`/api/openapi.json`: every route with what it takes, answers and refuses, in OpenAPI 3.1.

Nothing is written down a second time: the routes come from the app's URL map, what they take and refuse from the
`Operation` that is noted on each view, what they answer from its return annotation, every field and limit from the
pydantic models that really read and write it, and the meaning of an error from the tree in `errors.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from typing import Any, get_args, get_type_hints

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import errors
from cache_decorator import cached_result_sync
from cache_manager import LRUCache
from version import VERSION
from web import answers, schemas
from web.operations import Operation
from web.responses import STATUS
from web.security import OPEN_PATHS, UNCOUNTED_PATHS

Json = dict[str, Any]
_documents = LRUCache(max_size=8)

TAGS = {
    "Generation": "Pictures in, files out: upload, start, wait, download.",
    "Cache": "What is kept of earlier work, and its limits.",
    "State": "How the server is, what it offers, and the page.",
    "Hunyuan3D": "For clients of the Hunyuan3D servers: the same queue, cache and limits. Files are scaled to ±1.",
}

_ABOUT = (
    "Times are ISO 8601 in UTC, lengths are millimetres, sizes in MB are 10^6 bytes. Every GET answers HEAD, too, and "
    "every path OPTIONS. Where ORFEAS_API_KEY is set, a request needs a key; each key sees its own jobs only. A fault "
    "of the server answers 500 with the code `internal`, or `storage` when a file could not be read or written, and a "
    "method that a path does not know 405 with `method_not_allowed`, both as ErrorAnswer."
)
_PATH_PARAMETERS = {
    "job_id": "From the upload.",
    "key": "A cache key, slashes and all.",
    "filename": "As an answer named it; of a job's file also `model.<ext>`, in any of the formats.",
}
_RANGES = (
    ("Range", "A part of the file, such as `bytes=0-99`: answered with 206."),
    ("If-None-Match", "The ETag that is known already: answered with 304 when it is the same."),
)
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of ORFEAS_API_KEY."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path as plain data: all that its description is made from."""

    method: str
    rule: str
    name: str
    """Of its endpoint."""
    summary: str
    tag: str
    answer: str
    """Name of a model in `answers`; empty where the view answers with bytes."""
    operation: Operation

    @property
    def path(self) -> str:
        """As OpenAPI writes it."""
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.rule)

    @property
    def parameters(self) -> list[str]:
        """Those in its path."""
        return re.findall(r"<(?:\w+:)?(\w+)>", self.rule)

    @property
    def takes_body(self) -> bool:
        """Whether it reads one."""
        return bool(self.operation.body or self.operation.form or self.operation.upload)

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key for it, nor is counted."""
        return self.rule in OPEN_PATHS or self.rule == "/"

    @property
    def is_page(self) -> bool:
        """Whether it serves the page's own files, for which nobody needs a key."""
        return self.rule == "/<path:filename>"

    def codes(self) -> set[str]:
        """Every error that it may give: its own, the guard's and the framework's."""
        found = {*self.operation.errors, "forbidden_host"}
        if self.method != "GET":
            found.add("forbidden_origin")
        if self.takes_body:
            found |= {"bad_request", "too_large"}
        if not self.is_open:
            found.add("unauthorized")
            if not self.rule.startswith(UNCOUNTED_PATHS):
                found.add("rate_limited")
        return found


def routes(app: Flask) -> tuple[Route, ...]:
    """What the app really serves, HEAD and OPTIONS aside."""
    return tuple(
        Route(
            method=method,
            rule=rule.rule,
            name=rule.endpoint,
            summary=_summary(view),
            tag=_tag(rule.rule, view.__module__),
            answer=_answer_model(view),
            operation=getattr(view, "operation", Operation()),
        )
        for rule in app.url_map.iter_rules()
        for view in [app.view_functions[rule.endpoint]]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    )


def _summary(view: Any) -> str:
    return (view.__doc__ or "").strip().partition("\n")[0]


def _tag(rule: str, module: str) -> str:
    if rule.startswith("/api/cache/"):
        return "Cache"
    return {"web.hunyuan_routes": "Hunyuan3D", "web.state_routes": "State"}.get(module, "Generation")


def _answer_model(view: Any) -> str:
    returned = get_type_hints(view, localns={"answers": answers}).get("return")
    kinds = [kind for kind in (returned, *get_args(returned)) if isinstance(kind, type)]
    return next((kind.__name__ for kind in kinds if issubclass(kind, BaseModel)), "")


@cached_result_sync(cache=_documents)
def document(found: tuple[Route, ...], *, needs_key: bool) -> Json:
    """The description of those routes, of a server with or without keys; not to be changed by who gets it."""
    models = _models(found)
    components = {name: schema for name, schema in models.items() if not name.endswith("Query")}
    components |= {name: _without_null(components[name]) for name in _forms(found)}
    paths: dict[str, Json] = {}
    for route in found:
        paths.setdefault(route.path, {})[route.method.lower()] = _described(route, models, needs_key)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ORFEAS", "version": VERSION, "description": _ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _KEYS},
    }


def _models(found: tuple[Route, ...]) -> dict[str, Json]:
    """The schema of every model that a route names, and of those inside them, by name."""
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(answers.ErrorAnswer, "serialization"): None}
    for route in found:
        if route.answer:
            wanted[getattr(answers, route.answer), "serialization"] = None
        for name in (route.operation.query, route.operation.body, route.operation.form):
            if name:
                wanted[getattr(schemas, name), "validation"] = None
    _, definitions = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    schemas_by_name: dict[str, Json] = definitions["$defs"]
    return schemas_by_name


def _forms(found: tuple[Route, ...]) -> set[str]:
    return {route.operation.form for route in found if route.operation.form}


def _without_null(model: Json) -> Json:
    return {**model, "properties": {name: _said_in_text(field) for name, field in model["properties"].items()}}


def _described(route: Route, models: dict[str, Json], needs_key: bool) -> Json:
    described: Json = {"operationId": route.name, "tags": [route.tag], "summary": route.summary}
    if parameters := [*_path(route), *_query(route, models), *_headers(route)]:
        described["parameters"] = parameters
    if content := _request(route.operation):
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = {**_answers(route), **_refusals(route)}
    keys: list[Json] = [{name: []} for name in _KEYS]
    without: list[Json] = [] if needs_key and not route.is_page else [{}]
    described["security"] = [] if route.is_open else [*without, *keys]
    return described


# ── what it takes ────────────────────────────────────────────────────────────────────────────────────────────────────


def _path(route: Route) -> Iterator[Json]:
    for name in route.parameters:
        schema = {"type": "string", "minLength": 1}
        described = {"description": _PATH_PARAMETERS[name]} if name in _PATH_PARAMETERS else {}
        yield {"name": name, "in": "path", "required": True, **described, "schema": schema}


def _query(route: Route, models: dict[str, Json]) -> Iterator[Json]:
    model = models.get(route.operation.query, {})
    for name, schema in model.get("properties", {}).items():
        schema = _said_in_text(schema)
        described = {"description": schema.pop("description")} if "description" in schema else {}
        required = name in model.get("required", ())
        yield {"name": name, "in": "query", "required": required, **described, "schema": schema}


def _said_in_text(schema: Json) -> Json:
    """The same field where there is no null, only absence."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
    facts = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return {**facts, **kinds[0]} if len(kinds) == 1 else facts | ({"anyOf": kinds} if kinds else {})


def _headers(route: Route) -> Iterator[Json]:
    if HTTPStatus.PARTIAL_CONTENT in route.operation.statuses:
        for name, text in _RANGES:
            yield {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


def _request(operation: Operation) -> Json:
    content: Json = {}
    if operation.body:
        content["application/json"] = {"schema": _ref(operation.body)}
    if operation.form:
        content["multipart/form-data"] = {"schema": _ref(operation.form)}
    return content | _bytes_of(operation.upload)


# ── what it answers ──────────────────────────────────────────────────────────────────────────────────────────────────


def _answers(route: Route) -> Json:
    model = {"application/json": {"schema": _ref(route.answer)}}
    content = model if route.answer else _bytes_of(route.operation.download)
    return {
        str(status): {"description": HTTPStatus(status).phrase}
        | ({} if status == HTTPStatus.NOT_MODIFIED else {"content": content})
        for status in route.operation.statuses
    }


def _refusals(route: Route) -> Json:
    by_status = groupby(sorted(route.codes(), key=lambda code: (STATUS[code], code)), key=STATUS.__getitem__)
    return {str(status): _refusal(tuple(codes)) for status, codes in by_status}


def _refusal(codes: tuple[str, ...]) -> Json:
    kinds = errors.codes()
    meanings = [f"`{code}`: {(kinds[code].__doc__ or '').strip().partition(chr(10))[0]}" for code in codes]
    narrowed = {"type": "object", "properties": {"code": {"enum": list(codes)}}}
    refusal: Json = {
        "description": " ".join(meanings),
        "content": {"application/json": {"schema": {"allOf": [_ref("ErrorAnswer"), narrowed]}}},
    }
    if STATUS[codes[0]] in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        text = "Seconds after which it is worth another try."
        refusal["headers"] = {"Retry-After": {"description": text, "schema": {"type": "integer"}}}
    return refusal


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _bytes_of(types: tuple[str, ...]) -> Json:
    schema = {"type": "string", "format": "binary"}
    return {kind: {"schema": {"type": "object"} if kind == "application/json" else schema} for kind in types}
