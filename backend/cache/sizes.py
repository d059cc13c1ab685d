"""How many bytes a value keeps in memory."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

_THERE_ANYWAY = (type, ModuleType, FunctionType, BuiltinFunctionType)


def deep_size(value: Any) -> int:
    """Bytes that keeping `value` costs: its own and, once each, those of all it refers to.

    Bytes count their length; arrays, tensors and pictures the memory behind them, a view all of its base; classes,
    functions and modules nothing, as they are there anyway.

    >>> deep_size(b"0123456789")
    10
    >>> block = bytes(1000)
    >>> deep_size([block, block]) < 1200
    True
    """
    if type(value) is bytes:
        return len(value)
    total, seen, todo = 0, dict[object, Any](), [value]
    while todo:
        item = todo.pop()
        mark = _identity(item)
        if mark in seen or isinstance(item, _THERE_ANYWAY):
            continue
        seen[mark] = item  # held, for a property may have made it on the way and its id could come again
        size, parts = _own_size(item)
        total += size
        todo += parts
    return total


def _identity(item: Any) -> object:
    """What is the same for one object met twice; torch makes a new one for the same memory each time."""
    return ("memory", item.data_ptr()) if type(item).__name__ == "UntypedStorage" else id(item)


def _own_size(item: Any) -> tuple[int, list[Any]]:
    """The bytes of the object alone, and the objects that it refers to."""
    if isinstance(item, bytes | bytearray):
        return len(item), []
    kind = type(item)
    if hasattr(kind, "untyped_storage"):  # a tensor
        return 0, [item.untyped_storage()] if str(item.layout) == "torch.strided" else [item._indices(), item._values()]
    if kind.__name__ == "UntypedStorage":
        return item.nbytes(), []
    if isinstance(getattr(kind, "nbytes", None), property | GetSetDescriptorType):  # an array, a memoryview
        held = getattr(item, "base", None) if kind is not memoryview else item.obj
        if held is not None and (hasattr(held, "nbytes") or isinstance(held, bytes | bytearray)):
            return 0, [held]
        return item.nbytes, item.tolist() if getattr(getattr(item, "dtype", None), "hasobject", False) else []
    if hasattr(kind, "getbands"):  # a PIL image: 1 byte per pixel, or 4 padded
        return item.width * item.height * (1 if item.mode in ("1", "L", "P") else 4), []
    parts: list[Any] = list(getattr(item, "__dict__", {}).values())
    if isinstance(item, dict):
        parts += item.keys()
        parts += item.values()
    elif isinstance(item, list | tuple | set | frozenset | deque):
        parts += item
    for base in kind.__mro__:
        for slot in vars(base).values():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):  # not set
                    parts.append(slot.__get__(item))
    return sys.getsizeof(item), parts
