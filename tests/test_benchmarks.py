"""The benchmarks run, compare equal work and write what they measured. How fast they are is not tested."""

from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SMALLEST = ["--random-weights", "small", "--device", "cpu", "--batch", "2", "--tokens", "4", "--repeats", "1"]


@pytest.fixture(autouse=True)
def scripts_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does for a script: its folder comes first. Their short names do not outlive the test."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("machine", "timing", "steering", "extraction", "server", "batching", "products"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def run(name: str, arguments: list[str], folder: Path) -> dict[str, Any]:
    out = folder / f"{name}.json"
    runpy.run_path(str(FOLDER / f"{name}.py"))["main"]([*arguments, "--out", str(out)])
    result: dict[str, Any] = json.loads(out.read_text())
    assert result["benchmark"] == name and "torch" in result["machine"]
    return result


def details(result: dict[str, Any], start: str) -> dict[str, Any]:
    (found,) = (figure["details"] for figure in result["figures"] if figure["name"].startswith(start))
    assert isinstance(found, dict)
    return found


def test_steering_measures_rows_that_steering_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run("steering", SMALLEST, tmp_path)
    assert result["model"]["id"] == "random:small"
    assert all(math.isfinite(figure["value"]) and figure["value"] > 0 for figure in result["figures"])
    assert [figure["target"] for figure in result["figures"] if figure["target"]] == [0.97, 0.90, 1.05]
    assert details(result, "decoding: 8 layers of add")["smallest_change"] > 0.01
    assert details(result, "decoding: add + floor + ablate")["smallest_change"] > 0.01
    shown = capsys.readouterr().out
    assert all(figure["name"] in shown for figure in result["figures"])


def test_extraction_measures_the_same_means_both_ways(tmp_path: Path) -> None:
    result = run("extraction", SMALLEST, tmp_path)
    assert all(math.isfinite(figure["value"]) and figure["value"] > 0 for figure in result["figures"])
    assert details(result, "given texts, 10")["smallest_cosine"] > 0.9999
    assert details(result, "prompts to vector")["answers"] == 12


def test_evaluation_measures_the_same_answers_both_ways(tmp_path: Path) -> None:
    sizes = ["--answers", "20", "--strengths", "3", "--questions", "2"]
    result = run("evaluation", [*SMALLEST, *sizes], tmp_path)
    assert all(math.isfinite(figure["value"]) and figure["value"] > 0 for figure in result["figures"])
    assert details(result, "sweep of 3 strengths")["runs_with_the_same_texts"] == 1
    assert details(result, "vectors built from")["smallest_cosine"] > 0.999
    assert details(result, "projection of 20 answers")["answers"] == 20


def test_server_measures_clients_whose_recipes_were_applied(tmp_path: Path) -> None:
    result = run("server", [*SMALLEST, "--clients", "3", "--requests", "3"], tmp_path)
    assert all(math.isfinite(figure["value"]) and figure["value"] > 0 for figure in result["figures"])
    assert [figure["target"] for figure in result["figures"] if figure["target"]] == [1.5, 1.05, 1.05, 1.02]
    assert details(result, "3 clients: first token")["answers"] == 3


def test_products_compares_equal_answers(tmp_path: Path) -> None:
    result = run("products", SMALLEST, tmp_path)
    assert all(math.isfinite(figure["value"]) and figure["value"] > 0 for figure in result["figures"])
    assert details(result, "decoding 8 at once")["same_answers"] == 1


def test_cli_start_measures_the_help_and_finds_nothing_heavy(tmp_path: Path) -> None:
    result = run("cli_start", ["--repeats", "1"], tmp_path)
    assert result["figures"][0]["value"] > 0
    assert details(result, "heavy packages") == {"loaded": []}


def test_sides_take_turns_after_a_warm_up_of_each() -> None:
    from timing import take_turns

    order: list[str] = []

    def side(name: str) -> int:
        order.append(name)
        return len(order)

    found = take_turns({"a": lambda: side("a"), "b": lambda: side("b")}, repeats=2)
    assert order == ["a", "b"] * 3
    assert found == {"a": [3, 5], "b": [4, 6]}


def test_a_figure_is_a_ratio_of_medians_held_against_its_bound() -> None:
    from timing import Figure, ratio, table

    found = ratio("speed", [2.0, 4.0, 9.0], [4.0, 4.0, 3.0], target=1.0)
    assert (found.value, found.low, found.high, found.met) == (1.0, 0.5, 3.0, True)
    slow = Figure("start", 0.4, target=0.3, at_most=True, unit="s")
    assert slow.met is False and Figure("only reported", 1.0).met is None
    assert "MISSED" in table([slow]) and "0.400 s" in table([slow])


def test_batching_measures_as_many_tokens_both_ways(tmp_path: Path) -> None:
    (figure,) = run("batching", SMALLEST, tmp_path)["figures"]
    assert figure["value"] > 0 and set(figure["details"]) == {"rolling_tokens_per_s", "continuous_tokens_per_s"}
