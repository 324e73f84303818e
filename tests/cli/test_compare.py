"""`compare`: one prompt, several lanes, and every kind of bad input."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Cli, Result
from tests.cli.test_generate import refused

SHORT = ("--max-new-tokens", "8", "--seed", "3")
TWO = ("--with", "sage:0.6", "--with", "sage:0.5,calm:-0.3")

pytestmark = pytest.mark.usefixtures("stored")


def test_every_lane_is_what_generate_answers_alone(on_tiny: Cli) -> None:
    data = on_tiny("compare", "hello", *TWO, *SHORT, "--json").data
    assert [lane["name"] for lane in data["lanes"]] == ["base", "sage:0.6", "sage:0.5,calm:-0.3"]
    for lane, blend in zip(data["lanes"], ((), ("--blend", "sage:0.6"), ("--blend", TWO[3])), strict=True):
        alone = on_tiny("generate", "hello", *blend, *SHORT, "--json").data
        assert {key: lane[key] for key in ("text", "recipe", "recipe_hash", "blend", "safety", "tokens")} == {
            key: alone[key] for key in ("text", "recipe", "recipe_hash", "blend", "safety", "tokens")
        }
        assert (data["sampling"], data["model"]) == (alone["sampling"], alone["model"])


def test_nothing_is_shown_that_was_not_measured(on_tiny: Cli) -> None:
    result = on_tiny("compare", "hello", *TWO, *SHORT, "--json")
    assert "score" not in result.out and "coherence" not in result.out


def test_the_lanes_are_on_stdout_and_notes_on_stderr(on_tiny: Cli) -> None:
    data = on_tiny("compare", "hello", *TWO, *SHORT, "--json").data
    result = on_tiny("compare", "-", *TWO, *SHORT, stdin="hello\n")
    assert result.code == 0
    assert result.out == "\n\n".join(f"[{lane['name']}]\n{lane['text']}" for lane in data["lanes"]) + "\n"
    assert len(result.err.splitlines()) == 3 and "seed 3" in result.err
    assert on_tiny("compare", "hello", *TWO, *SHORT, "-q").err == ""


def test_the_base_can_be_left_out_and_a_strength_too(on_tiny: Cli) -> None:
    result = on_tiny("compare", "hello", "--with", "sage", "--no-base", "--no-safety", *SHORT, "--json")
    (lane,) = result.data["lanes"]
    assert lane["blend"] == {"sage": 1.0}
    assert [item["op"] for item in lane["recipe"]] == ["add"]


def test_a_system_prompt_is_for_every_lane(on_tiny: Cli) -> None:
    plain, told = (
        on_tiny("compare", "hello", "--with", "sage", *SHORT, *more, "--json").data["lanes"]
        for more in ((), ("--system", "Be kind."))
    )
    assert [lane["prompt_tokens"] for lane in told] == [plain[0]["prompt_tokens"] + 10] * 2


def test_a_warning_is_said_once(on_tiny: Cli) -> None:
    result = on_tiny("compare", "hello", "--with", "bland:0.5", "--with", "bland:0.6", *SHORT, "-q")
    assert result.err.count("is weak") == 1


@pytest.mark.parametrize(
    ("options", "code", "message", "hint"),
    [
        ((), 2, "nothing to compare with", "--with"),
        (("--with", "sgae"), 4, "'sgae'", "'sage'"),
        (("--with", "sage:3"), 2, "out of range", "-2 to 2"),
        (("--with", "sage,sage"), 2, "twice", "once"),
        (("--with", ""), 2, "not a blend", "name:strength"),
        (("--with", "sage", "--temperature", "hot"), 3, "temperature", "greedy"),
        (("--with", "sage", "--persona", "sage"), 2, "no such option", "--help"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    on_tiny: Cli, options: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    refused(on_tiny("compare", "hello", *options), code, message, hint)


def test_an_empty_prompt_is_refused(on_tiny: Cli) -> None:
    refused(on_tiny("compare", "-", "--with", "sage", stdin=" \n"), 2, "empty")


def test_an_unknown_name_is_refused_before_a_model_is_loaded(cli: Cli) -> None:
    result: Result = cli("compare", "hello", "--with", "nobody", "--model", "not/there")
    refused(result, 4, "'nobody'")
