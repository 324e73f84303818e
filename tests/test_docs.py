"""The documentation is generated or checked: nothing in it can rot in silence."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from persona_steering.cli.main import COMMANDS, root

TOP = Path(__file__).parent.parent
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]


def test_generated_pages_are_fresh() -> None:
    # in a process of its own: click remembers the help option of the first context that a command was shown in
    command = [sys.executable, str(TOP / "docs" / "generate.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_figures_of_the_readme_are_those_of_the_results() -> None:
    made = runpy.run_path(str(TOP / "benchmarks" / "figures.py"))
    assert made["page"]() == (TOP / "README.md").read_text(), "run: python benchmarks/figures.py"


def test_the_archetypes_page_shows_what_was_measured() -> None:
    results = json.loads((TOP / "benchmarks" / "results" / "archetypes.json").read_text())
    page = (TOP / "docs" / "archetypes.md").read_text()
    for row in results["archetypes"]:
        mean, low, high = row["raw"]["score"]
        assert f"| {row['name']} |" in page
        assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in page
    assert len(results["archetypes"]) == 17


def commands_in(page: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("persona-steer ")]


def test_every_command_line_that_the_readme_shows_is_accepted_by_its_command() -> None:
    lines = commands_in(TOP / "README.md")
    assert len(lines) > 5
    for line in lines:
        name, *arguments = shlex.split(line)[1:]
        assert name in COMMANDS, line
        command = root.get_command(click.Context(root), name)
        assert command is not None
        command.make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_room_has_a_page() -> None:
    rooms = {path.name for path in (TOP / "src" / "persona_steering").iterdir() if (path / "__init__.py").exists()}
    documented = {path.stem for path in (TOP / "docs").glob("*.md")}
    assert rooms <= documented


@pytest.mark.embedded
def test_the_python_of_the_readme_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model_cache: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (TOP / "README.md").read_text(), re.S)
    monkeypatch.setenv("PERSONA_STEER_HOME", str(tmp_path))
    monkeypatch.setenv("PERSONA_STEER_PATHS__CACHE", str(model_cache))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


def test_the_evaluation_page_shows_the_sweep_that_was_measured() -> None:
    result = json.loads((TOP / "benchmarks" / "results" / "sweep.json").read_text())
    page = (TOP / "docs" / "evaluation.md").read_text()
    kind = "score" if result["prompted"]["score"] else "gain"
    for point in result["points"]:
        cells = [f"{point['strength']:g}"]
        for value, digits in ((point["steered"][kind], 2), (point["control"][kind], 2)):
            cells.append(f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]")
        assert f"| {' | '.join(cells)} |" in page
    for chart in ("effect", "coherence"):
        assert f"(sweep-{chart}.svg)" in page and "<svg" in (TOP / "docs" / f"sweep-{chart}.svg").read_text()
