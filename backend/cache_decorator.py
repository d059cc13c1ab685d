"""Decorators that remember what a function returned: `cached_result` for `async def`, `cached_result_sync` for `def`.

    >>> from cache_manager import LRUCache
    >>> @cached_result_sync(cache=LRUCache())
    ... def volume(width: float, height: float = 1.0) -> float:
    ...     print("computing")
    ...     return width * height
    >>> volume(2.0), volume(width=2.0, height=1.0)
    computing
    (2.0, 2.0)
    >>> volume.invalidate(2.0), volume.invalidate(2.0)
    (True, False)

The key is the SHA-256 of the function's name and its arguments as the function receives them, so that positional,
keyword and default spellings of one call agree. The encoding is typed and length-prefixed: `1`, `1.0`, `True` and `"1"`
differ, as do `"a|b"` and `"a", "b"`. The order of a dict, and of keyword arguments, does not count. Arrays, tensors and
pictures count by content. A value of an unknown type, whose text or address might say too little, is never guessed at:
the call goes past the cache, with one warning. A class makes its instances known, `self` included, by a method
`__cache_key__` that returns what tells them apart.

The stored object itself is returned to every caller; whoever wants to change it makes a copy. An iterator, which serves
once, is not stored.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import logging
import sys
import threading
import types
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import PurePath
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import UUID
from weakref import WeakKeyDictionary

from cache_manager import LRUCache, get_cache

logger = logging.getLogger(__name__)
P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S", contravariant=True)
R = TypeVar("R")
T = TypeVar("T")


class Cached(Protocol[P, R]):
    """A decorated function: called as before, with three more things to ask of it."""

    uncached: Callable[P, R]
    """The function itself."""
    key_prefix: str
    """What its keys begin with, but where its `cache_key_fn` gives a text: `cache.delete_prefix(f.key_prefix)` forgets
    all those results."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The stored result, or a new one."""

    @overload
    def __get__(self, instance: None, owner: type) -> Cached[P, R]: ...

    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], instance: S, owner: type) -> Callable[Q, R]: ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """The key of this call; None where it goes past the cache. Of a method: `Class.method.cache_key(self, …)`."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of this call; False if there was none."""


class _ServesOnceError(Exception):
    """Goes past the cache, to all who wait: the result is an iterator, and the second caller would get the rest."""


class UnkeyableError(TypeError):
    """A value whose type says nothing about what makes two of them equal."""


def cached_result(
    cache_key_fn: Callable[..., Any] | None = None,
    ttl_seconds: float | None = None,
    enabled: bool | Callable[[], bool] = True,
    *,
    cache: LRUCache | None = None,
    prefix: str = "",
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Cached[P, Coroutine[Any, Any, R]]]:
    """Remember the results of a coroutine function.

    `cache_key_fn(*args, **kwargs)` replaces the default key: a str is taken as it is, None goes past the cache.
    `ttl_seconds` None: the cache's default. `enabled` may be a function, asked at every call. `cache` None: what
    `get_cache()` gives at the call. `prefix` begins every key, so that `cache.delete_prefix(prefix)` forgets what all
    functions of that prefix gave. Calls of equal key under way at once run once; an error reaches all, unstored.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Cached[P, Coroutine[Any, Any, R]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"cached_result needs an async def, not {function!r}; use cached_result_sync")
        caching = _Caching(function, cache_key_fn, enabled, cache, prefix)

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            key = caching.key_if_enabled(*args, **kwargs)
            if key is None:
                return await function(*args, **kwargs)
            led: list[R] = []

            async def compute() -> R:
                result = await function(*args, **kwargs)
                led.append(result)
                return caching.storable(result)

            try:
                return await caching.cache.aget_or_compute(key, compute, ttl_seconds=ttl_seconds)
            except _ServesOnceError:
                return led[0] if led else await function(*args, **kwargs)

        return caching.dress(wrapper)

    return decorate


def cached_result_sync(
    cache_key_fn: Callable[..., Any] | None = None,
    ttl_seconds: float | None = None,
    enabled: bool | Callable[[], bool] = True,
    *,
    cache: LRUCache | None = None,
    prefix: str = "",
) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """`cached_result` for plain functions; refuses coroutine and generator functions, whose results serve once."""

    def decorate(function: Callable[P, R]) -> Cached[P, R]:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is an async def; use cached_result")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is a generator; what it gives can be used only once")
        if not callable(function) or isinstance(function, staticmethod):
            raise TypeError(
                f"{function!r} is not a function; @classmethod, @staticmethod and @property go above cached_result_sync"
            )
        caching = _Caching(function, cache_key_fn, enabled, cache, prefix)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            key = caching.key_if_enabled(*args, **kwargs)
            if key is None:
                return function(*args, **kwargs)
            led: list[R] = []

            def compute() -> R:
                result = plain(function(*args, **kwargs))
                led.append(result)
                return caching.storable(result)

            try:
                return caching.cache.get_or_compute(key, compute, ttl_seconds=ttl_seconds)
            except _ServesOnceError:
                return led[0] if led else plain(function(*args, **kwargs))

        def plain(result: R) -> R:
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError(f"{function!r} returns a coroutine, which serves once; use cached_result")
            return result

        return caching.dress(wrapper)

    return decorate


_naming = threading.RLock()
_times_decorated: Counter[str] = Counter()


class _Caching(Generic[P, R]):
    """What both decorators share: from a call to its key and its cache."""

    def __init__(
        self,
        function: Callable[P, R],
        key_function: Callable[..., Any] | None,
        enabled: bool | Callable[[], bool],
        cache: LRUCache | None,
        prefix: str,
    ) -> None:
        # A partial object and an instance with `__call__` have no name of their own.
        named = function if hasattr(function, "__qualname__") else type(function)
        name = f"{named.__module__}.{named.__qualname__}"
        with _naming:
            _times_decorated[name] += 1  # closures, lambdas and reloaded modules use a name again
            times = _times_decorated[name]
        if times > 1:
            name += f"#{times}"
        self.function = function
        self.group = prefix
        self.prefix = f"{prefix}{name}:"
        self.signature = inspect.signature(function, follow_wrapped=False)  # a wrapper may change what it passes on
        self.key_function = key_function
        self.enabled = enabled
        self.chosen_cache = cache
        self.warned = False

    @property
    def cache(self) -> LRUCache:
        return get_cache() if self.chosen_cache is None else self.chosen_cache

    def key_if_enabled(self, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        enabled = self.enabled() if callable(self.enabled) else self.enabled
        return self.key(*args, **kwargs) if enabled else None

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        try:
            if self.key_function is not None:
                chosen = self.key_function(*args, **kwargs)
                if chosen is None:
                    return None
                return self.group + chosen if isinstance(chosen, str) else self.prefix + digest(chosen)
            call = self.signature.bind(*args, **kwargs)
            call.apply_defaults()
            return self.prefix + digest(call.arguments)
        except Exception as error:  # a call must not fail for want of a key; a wrong call fails by itself
            if not self.warned:
                self.warned = True
                logger.warning("calls of %s go past the cache: %s", self.prefix[:-1], error)
            return None

    def storable(self, result: T) -> T:
        if isinstance(result, Iterator | AsyncIterator):
            if not self.warned:
                self.warned = True
                logger.warning("results of %s are not stored: an iterator serves once", self.prefix[:-1])
            raise _ServesOnceError
        return result

    def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        key = self.key(*args, **kwargs)
        return key is not None and self.cache.delete(key)

    def dress(self, wrapper: Callable[P, R]) -> Cached[P, R]:
        dressed = cast(Any, wrapper)
        dressed.uncached = self.function
        dressed.key_prefix = self.prefix
        dressed.cache_key = self.key
        dressed.invalidate = self.invalidate
        return cast(Cached[P, R], dressed)


def digest(value: Any) -> str:
    """SHA-256 of the canonical encoding of `value`, in hexadecimal; UnkeyableError names a type it does not know.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    >>> len({digest(one) for one in (1, 1.0, True, "1", b"1", (1,), [1])})
    7
    """
    return _encode(value, ()).hex()


_CONTAINERS = (str, bytes, bytearray, int, float, complex, list, tuple, set, frozenset, dict)
_BY_REPR = (
    type(None),
    type(...),
    bool,
    float,
    complex,
    Decimal,
    Fraction,
    UUID,
    range,
    date,
    datetime,
    time,
    timedelta,
)


def _hash(tag: str, *parts: Any) -> bytes:
    """SHA-256 of bytes-like parts, each behind its length, so that no two lists of parts look alike."""
    state = hashlib.sha256()
    for part in (tag.encode(), *parts):
        state.update(memoryview(part).nbytes.to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def _encode(value: Any, outer: tuple[int, ...]) -> bytes:
    """A digest of type and content; `outer` holds the ids of the containers around it."""
    kind = type(value)
    zone = getattr(value, "tzinfo", None) if kind in (datetime, time) else None
    if zone is not None and type(zone).__module__ not in ("datetime", "zoneinfo"):
        raise UnkeyableError(f"no key for a time zone of type {type(zone).__qualname__}")  # its text may be its address
    if kind in _BY_REPR:
        return _hash(kind.__name__, repr(value).encode())
    if kind is int:
        return _hash("int", hex(value).encode())  # `repr` refuses numbers of many digits
    if kind is str:
        return _hash("str", value.encode("utf-8", "surrogatepass"))
    if kind in (bytes, bytearray):
        return _hash(kind.__name__, value)
    if id(value) in outer:
        raise UnkeyableError("a container that contains itself")
    inner = (*outer, id(value))

    def each(items: Iterable[Any]) -> list[bytes]:
        return [_encode(item, inner) for item in items]

    if kind in (list, tuple):
        return _hash(kind.__name__, *each(value))
    if kind in (set, frozenset):
        return _hash(kind.__name__, *sorted(each(value)))
    if kind is dict:
        return _hash("dict", *sorted(each(value.items())))
    if kind is OrderedDict:
        return _hash("OrderedDict", *each(value.items()))
    if hasattr(kind, "__cache_key__"):
        return _hash("declared", _encode(kind, ()), _encode(value.__cache_key__(), inner))
    if isinstance(value, type):
        return _hash("type", _class_name(value).encode())
    if isinstance(value, enum.Enum):
        return _hash("enum", _encode(kind, ()), _encode([getattr(value, "name", None), value.value], inner))
    if isinstance(value, PurePath):
        return _hash("path", _encode(kind, ()), str(value).encode("utf-8", "surrogateescape"))
    if "__dataclass_fields__" in vars(kind) and not isinstance(value, _CONTAINERS):  # all there is to it: its fields
        return _hash("dataclass", _encode(kind, ()), *each((f.name, getattr(value, f.name)) for f in fields(value)))
    if isinstance(value, tuple) and hasattr(kind, "_fields") and not hasattr(value, "__dict__"):
        return _hash("namedtuple", _encode(kind, ()), *each(value))
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType) and _is_found_by_name(value):
        return _hash("function", f"{value.__module__}.{value.__qualname__}".encode())
    return _encode_foreign(value, inner)


def _encode_foreign(value: Any, inner: tuple[int, ...]) -> bytes:
    """Arrays, tensors and pictures, of libraries that are not imported for this: who has one has imported it."""
    kind = type(value)
    numpy, torch, image = (sys.modules.get(name) for name in ("numpy", "torch", "PIL.Image"))
    if numpy and (kind is numpy.ndarray or (isinstance(value, numpy.generic) and kind.__module__ == "numpy")):
        array = numpy.asarray(value)
        about = repr((array.dtype, array.shape)).encode()
        if array.dtype.hasobject:
            return _hash(f"{kind.__name__} of objects", about, _encode(array.tolist(), inner))
        content = numpy.ascontiguousarray(array).reshape(-1).view("u1")
        return _hash(kind.__name__, about, content)
    strided = torch and kind in (torch.Tensor, torch.nn.Parameter) and value.layout is torch.strided
    if torch and strided and not value.is_quantized:
        tensor = (value.dtype, tuple(value.shape), value.device, value.requires_grad)
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return _hash(kind.__name__, repr(tensor).encode(), content)
    if image and isinstance(value, image.Image) and getattr(value, "n_frames", 1) == 1:
        palette = value.palette and [value.palette.mode, value.palette.tobytes()]
        extras = [palette, *(value.info.get(name) for name in ("transparency", "exif", "icc_profile"))]
        return _hash("image", repr((value.mode, value.size)).encode(), value.tobytes(), _encode(extras, inner))
    raise UnkeyableError(f"no key for a value of type {kind.__module__}.{kind.__qualname__}")


def _is_found_by_name(value: Any) -> bool:
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


_local_classes: WeakKeyDictionary[type, int] = WeakKeyDictionary()
_class_numbers = count()  # not how many there are: some have died


def _class_name(kind: type) -> str:
    """The name that leads to the class; classes made inside functions share theirs and get a number."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if _is_found_by_name(kind):
        return name
    with _naming:
        if kind not in _local_classes:
            _local_classes[kind] = next(_class_numbers)
        return f"{name}#{_local_classes[kind]}"
