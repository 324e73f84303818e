"""The house as a test: imports go one way, heavy packages have one home, modules and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "persona_steering"

# A module may import only from rooms above its own line, and from its own room.
ROOMS = [
    {"errors"},
    {"files"},
    {"config"},
    {"vectors"},
    {"interventions", "personas"},
    {"backends"},
    {"scoring"},
    {"authoring", "extraction", "calibration"},
    {"evaluation", "transfer", "training"},
    {"engine"},
    {"server"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
HEAVY = {"torch", "transformers", "fastapi", "uvicorn", "llama_cpp", "vllm", "bitsandbytes"}
# Where a heavy package may be imported at all: at module level in its home, inside functions elsewhere listed.
HOMES = {
    "torch": {"backends/transformers", "backends/wrapper.py", "vectors/formats"},
    "transformers": {"backends/transformers"},
    "bitsandbytes": {"backends/transformers"},
    "httpx2": {"backends/http.py", "engine/remote/client.py"},
    "llguidance": {"backends/transformers/schema.py"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "uvicorn": {"server/listening.py"},
    "prometheus_client": {"server/metrics.py"},
    "click": {"cli"},
    "rich": {"cli"},
    "prompt_toolkit": {"cli/repl"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__"} <= set(RANK)


def test_imports_point_one_way() -> None:
    wrong = []
    for path in MODULES:
        here = room_of(path)
        for name in imported_names(ast.parse(path.read_text())):
            root, there, *_ = (*name.split("."), "")
            known = root == "persona_steering" and here in RANK and there in RANK and there != here
            if known and RANK[there] >= RANK[here]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_heavy_packages_have_one_home() -> None:
    wrong = []
    for path in MODULES:
        place = path.relative_to(PACKAGE).as_posix()
        for name in imported_names(ast.parse(path.read_text())):
            homes = HOMES.get(name.split(".")[0])
            if homes is not None and not any(place == home or place.startswith(home + "/") for home in homes):
                wrong.append(f"{place} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_modules_stay_below_600_lines_and_functions_below_100() -> None:
    wrong = []
    for path in MODULES:
        text = path.read_text()
        if text.count("\n") > 600:
            wrong.append(f"{path.relative_to(PACKAGE)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 100:
                    wrong.append(f"{path.relative_to(PACKAGE)}: {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_the_core_never_prints() -> None:
    calls = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        if room_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls


@pytest.mark.parametrize("code", ["import persona_steering", "import persona_steering.cli.main"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    script = f"import sys; {code}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(run.stdout.split())


def test_the_rooms_up_to_personas_need_only_numpy_pydantic_and_the_file_format() -> None:
    code = "import sys, persona_steering.personas.manager, persona_steering.interventions; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY | {"rich", "click", "yaml"}) & set(run.stdout.split())
