"""What the benchmarks share: what they ran on, cells in processes of their own, and Markdown."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


class CellError(Exception):
    """A cell's process gave no result; the text says why."""


def run_cell(script: str, *arguments: str, timeout: float) -> dict[str, Any]:
    """What `python script arguments` prints, read as JSON: in a fresh process, no cell sees another's memory."""
    command = [sys.executable, script, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise CellError(f"no answer after {timeout:g} s") from None
    if done.returncode:
        raise CellError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, all others to the right; cells padded for the eye."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def padded(line: Sequence[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0] = line[0].ljust(widths[0])
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)) + "|"
    return "\n".join([padded(head), rule, *map(padded, lines[1:])])


def installed(package: str) -> str:
    """The package with its version; nothing, if it is not here."""
    try:
        return f"{package} {version(package)}"
    except (PackageNotFoundError, ValueError):
        return ""


def machine() -> str:
    """One line for the head of a report: interpreter, system, cores and processor."""
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    processor = found[1] if found else platform.processor() or platform.machine()
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()}, {os.cpu_count()} cores, {processor}"
    )
