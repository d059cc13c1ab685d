"""`/api/docs`: the description of the API as one page for people, made from the same document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

Json = dict[str, Any]
_METHODS = ("get", "post", "put", "delete")
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def page_of(document: Json) -> str:
    """The page of a document of `openapi.document`."""
    operations = [
        {"method": method.upper(), "path": path, **described}
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if method in _METHODS
    ]
    return _template().render(
        info=document["info"],
        groups=[
            {**tag, "operations": [each for each in operations if tag["name"] in each["tags"]]}
            for tag in document["tags"]
        ],
        models=document["components"]["schemas"],
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words=words, limits=limits, marked=marked)
    return environment.get_template("reference.html")


def marked(text: str) -> Markup:
    """Text with its `code` marked as such."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def words(schema: Json) -> Markup:
    """What a value is."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#{0}">{0}</a>').format(name)
    if "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return Markup(" ").join(Markup("<code>{}</code>").format(choice) for choice in choices)
    if "allOf" in schema:
        return words(schema["allOf"][0])
    if "anyOf" in schema:
        return Markup(" or ").join(words(each) for each in schema["anyOf"])
    kind = schema.get("type", "")
    if kind == "array":
        return _list_words(schema)
    if kind == "object":
        inner = schema.get("additionalProperties")
        return Markup("object of {}").format(words(inner)) if isinstance(inner, dict) else Markup("object")
    if schema.get("format") == "binary":
        return Markup("file")
    form = {"date-time": "instant", "uri-reference": "path on this server"}.get(schema.get("format", ""))
    return Markup(escape(form or _WORDS.get(kind, "anything")))


def _list_words(schema: Json) -> Markup:
    if "prefixItems" in schema:
        return Markup("list of {} × {}").format(len(schema["prefixItems"]), words(schema["prefixItems"][0]))
    return Markup("list of {}").format(words(schema.get("items", {})))


def limits(schema: Json) -> str:
    """What a value may be, and what it is when it is not given."""
    return ", ".join(_limits(schema))


def _limits(schema: Json) -> Iterator[str]:
    for each in (schema, *schema.get("anyOf", ())):
        low, high = each.get("minimum"), each.get("maximum")
        if "exclusiveMinimum" in each:
            yield f"more than {_number(each['exclusiveMinimum'])}"
        if low is not None and high is not None:
            yield f"{_number(low)} to {_number(high)}"
        elif low is not None:
            yield f"{_number(low)} or more"
        elif high is not None:
            yield f"{_number(high)} or less"
        if "maxLength" in each:
            yield f"{_number(each['maxLength'])} characters or less"
    default = schema.get("default")
    if default not in (None, "") and not isinstance(default, dict):
        yield f"default {default}"


def _number(value: float) -> str:
    return f"{value:,.15g}"
