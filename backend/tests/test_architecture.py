"""The imports are as `docs/architecture.md` says."""

import ast
import re
from pathlib import Path

import pytest

from settings import ROOT

BACKEND = ROOT / "backend"
FILES = sorted(path for path in BACKEND.rglob("*.py") if "tests" not in path.relative_to(BACKEND).parts)
ROOMS = {path.relative_to(BACKEND).parts[0].removesuffix(".py") for path in FILES}


def room(path: Path) -> str:
    return path.relative_to(BACKEND).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Modules of this project that the file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}: imports are absolute"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.partition(".")[0] in ROOMS}


def allowed() -> dict[str, set[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| room | may import |") :].partition("\n\n")[0]
    return {
        name: set(re.findall(r"`(\w+)`", rest))
        for name, rest in re.findall(r"^\| `(\w+)` \|(.*)\|$", table, re.MULTILINE)
    }


def test_every_room_is_on_the_page_and_every_import_is_allowed():
    found = {name: set() for name in ROOMS}
    for path in FILES:
        found[room(path)] |= {name.partition(".")[0] for name in imported(path)} - {room(path)}
    rules = allowed()
    assert rules.keys() == ROOMS
    assert {name: rooms - rules[name] for name, rooms in found.items() if rooms - rules[name]} == {}
    assert {name: rooms - found[name] for name, rooms in rules.items() if rooms - found[name]} == {}, "no longer needed"


def test_the_rules_have_no_circle():
    rules, order = allowed(), []
    while rules:
        free = {name for name, rooms in rules.items() if not rooms & rules.keys()}
        assert free, f"a circle among {sorted(rules)}"
        order += free
        rules = {name: rooms for name, rooms in rules.items() if name not in free}
    assert order[-1] == "main"


def test_modules_have_no_circle_either():
    """When they are imported; what is imported in a function, or for types alone, is left out."""
    modules = {".".join(path.relative_to(BACKEND).with_suffix("").parts): path for path in FILES}
    needs = {name: {other for other in at_import(path) if other in modules} - {name} for name, path in modules.items()}
    while needs:
        free = {name for name, others in needs.items() if not others & needs.keys()}
        assert free, f"a circle among {sorted(needs)}"
        needs = {name: others for name, others in needs.items() if name not in free}


def at_import(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(BACKEND)))
def test_a_file_has_one_job_and_can_be_read_in_one_sitting(path):
    most = {"main.py": 400, "cache_manager.py": 760}.get(path.name, 500)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= most


def test_nothing_below_the_web_knows_flask():
    rooms = ("work", "store", "models", "picture", "mesh", "nn", "cache", "cache_manager", "cache_decorator", "errors")
    for path in FILES:
        if room(path) in rooms:
            assert not re.search(r"^\s*(from|import) (flask|werkzeug)", path.read_text(encoding="utf-8"), re.MULTILINE)
