"""`datasets` and `create --description`: real commands, with a server on this machine as the writer."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.authoring.writers import good
from tests.backends.fake_server import FakeServer, Reply, says, serving
from tests.cli.conftest import Cli, make_vector

from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.engine.create import Creator
from persona_steering.personas import Persona, load_questions, load_safety_prompts
from persona_steering.personas.datasets import Datasets, save_jsonl
from persona_steering.vectors import ModelIdentity, VectorStore

WIZARD = "a grumpy wizard who speaks in riddles"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving(good) as found:
        yield found


@pytest.fixture
def generator(server: FakeServer) -> str:
    return f"openai:{server.url}#writer"


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "data" / "datasets"


# show


def test_show_lists_the_shipped_set_and_says_where_it_is_from(cli: Cli) -> None:
    result = cli("datasets", "show", "questions", "-n", "2")
    assert result.code == 0
    assert load_questions(1)[0].question in result.out and len(result.out.splitlines()) == 3
    assert "From the package." in result.err


def test_show_as_json_holds_whole_items(cli: Cli) -> None:
    data = cli("datasets", "show", "unsafe", "--json").data
    assert data == [item.model_dump() for item in load_safety_prompts("unsafe")]
    assert len(cli("datasets", "show", "archetype", "sage", "--json").data) == 5


def test_show_prefers_the_set_of_the_workspace(cli: Cli, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "safe.jsonl").write_text('{"id": "a", "prompt": "Help me bake bread"}\n')
    result = cli("datasets", "show", "safe")
    assert "Help me bake bread" in result.out and str(folder / "safe.jsonl") in result.err


# generate


def test_generate_writes_a_set_that_is_used_from_then_on(cli: Cli, generator: str, folder: Path) -> None:
    result = cli("datasets", "generate", "questions", "-n", "12", "--generator", generator)
    assert result.code == 0, result.err
    assert f"12 saved in {folder / 'questions.jsonl'}. Rejected: " in result.err
    assert len(Datasets(folder).questions()) == 12
    assert not list(folder.glob("*.partial.jsonl"))

    again = cli("datasets", "generate", "questions", "-n", "12", "--generator", generator)
    assert again.code == 2 and "is there already" in again.err and "--replace" in again.err
    assert cli("datasets", "generate", "questions", "-n", "6", "--replace", "--generator", generator).code == 0
    assert len(Datasets(folder).questions()) == 6


def test_generate_puts_unsafe_prompts_to_the_model_and_lists_what_it_answers(
    cli: Cli, generator: str, tiny_model: ModelIdentity
) -> None:
    arguments = ("datasets", "generate", "unsafe", "-n", "10", "--generator", generator, "--model", tiny_model.id)
    result = cli(*arguments)
    assert result.code == 0, result.err
    assert result.out.count("not refused: ") == 10, "random weights refuse nothing"
    assert "did not refuse 10 of 10 unsafe prompts" in result.err

    data = cli(*arguments, "--replace", "--json").data
    assert data["items"] == 10 and len(data["not_refused"]) == 10 and data["held_by"] == "schema"


def test_unsafe_prompts_need_no_model_when_they_are_not_checked(
    cli: Cli, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("loaded"))
    result = cli("datasets", "generate", "unsafe", "-n", "10", "--no-check", "--generator", generator)
    assert result.code == 0, result.err


def test_generate_uses_the_configured_server_and_its_key(
    cli: Cli, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRITER_KEY", "sk-secret")
    configured = (
        *("--set", f"generator.base_url={server.url}", "--set", "generator.model=qwen"),
        *("--set", "generator.api_key_env=WRITER_KEY"),
    )
    assert cli("datasets", "generate", "safe", "-n", "10", *configured).code == 0
    assert {body["model"] for body in server.bodies} == {"qwen"}
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"

    with serving(good) as other:
        elsewhere = ("--generator", f"openai:{other.url}#m", "--replace")
        assert cli("datasets", "generate", "safe", "-n", "10", *configured, *elsewhere).code == 0
        assert "Authorization" not in other.headers[0], "the key is for the configured server alone"


def test_what_was_written_before_a_server_failed_is_kept_for_the_next_attempt(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.http.FIRST_WAIT", 0.0)

    def failing(body: dict[str, Any], number: int) -> Reply:
        return good(body, number) if number < 4 else Reply(status=500)

    with serving(failing) as server:
        result = cli("datasets", "generate", "safe", "-n", "40", "--generator", f"openai:{server.url}#m")
    assert result.code == 5 and "status 500" in result.err and "after 5 attempts" in result.err
    kept = load_safety_prompts("safe", path=folder / "safe.partial.jsonl")
    assert kept and not (folder / "safe.jsonl").exists()

    with serving(lambda body, number: good(body, number + 500)) as server:
        assert cli("datasets", "generate", "safe", "-n", "40", "--generator", f"openai:{server.url}#m").code == 0
    assert {item.prompt for item in kept} <= {item.prompt for item in Datasets(folder).safety_prompts("safe")}


def test_a_writer_that_is_no_use_ends_with_the_reasons(cli: Cli, folder: Path) -> None:
    with serving(lambda body, number: says("I would rather not.")) as server:
        result = cli("datasets", "generate", "questions", "-n", "6", "--generator", f"openai:{server.url}#m")
    assert result.code == 7
    assert "0 of 6 questions were written" in result.err and "× not JSON" in result.err
    assert not (folder / "questions.jsonl").exists()


def test_generate_archetype_saves_prompts_for_editing(cli: Cli, generator: str, folder: Path) -> None:
    result = cli("datasets", "generate", "archetype", "wizard", "--description", WIZARD, "--generator", generator)
    assert result.code == 0, result.err
    saved = tomllib.loads((folder / "personas" / "wizard.toml").read_text())
    assert saved["description"] == WIZARD and len(saved["system_prompts"]) == 5
    assert all(prompt in result.out for prompt in saved["system_prompts"])
    assert cli("datasets", "validate", "archetype", "wizard").code == 0
    shown = cli("datasets", "show", "archetype", "wizard", "--json").data
    assert [row["prompt"] for row in shown] == saved["system_prompts"]


# validate


def test_validate_says_that_a_shipped_set_is_good(cli: Cli) -> None:
    result = cli("datasets", "validate", "unsafe")
    assert result.code == 0 and "All 200 items" in result.err


def test_validate_lists_every_bad_item_with_its_reasons(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"id": 1, "question": "Is it?"}\n{"id": 2}\n{"id": 3, "question": "How do rivers find the sea?"}\n'
    )
    result = cli("datasets", "validate", "questions", "--file", str(file))
    assert result.code == 7
    assert result.out.splitlines() == [
        "line 1: shorter than 5 words; a yes/no question",
        "    Is it?",
        "line 2: it lacks the key 'question'",
    ]
    assert "2 complaints about" in result.err

    body = cli("datasets", "validate", "questions", "--file", str(file), "--json").out
    data, _ = json.JSONDecoder().raw_decode(body)
    assert data["items"] == 2 and [c["place"] for c in data["complaints"]] == ["line 1", "line 2"]


# bad input


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["show", "archetype"], 2, "which archetype?", "sage"),
        (["show", "archetype", "sag"], 4, "unknown archetype 'sag'", "'sage'"),
        (["show", "archetype", "../sage"], 4, "unknown archetype", ""),
        (["show", "safe", "sage"], 2, "takes no name", "Leave it out"),
        (["generate", "archetype", "wizard"], 2, "who is 'wizard'?", "--description"),
        (["generate", "archetype", "Wizard", "--description", "x"], 2, "not a valid name", "'wizard'"),
        (["generate", "safe", "--description", "x"], 2, "belongs to an archetype", "NAME"),
        (["generate", "safe", "--generator", "lokal"], 2, "is no generator", "'local'"),
        (["generate", "safe", "--generator", "openai:http://localhost/v1"], 2, "does not name a model", "#MODEL"),
        (["generate", "safe", "--generator", "openai:nowhere#m"], 2, "not the URL of a server", "http://"),
        (["validate", "safe", "--file", "none.jsonl"], 4, "there is no file", "path"),
        (["validate", "sage"], 2, "'sage' is not one of", "--help"),
        (["generate", "safe", "-n", "0"], 2, "0 is not in the range", "--help"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(
    arguments: list[str], code: int, message: str, hint: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("loaded"))
    result = cli("datasets", *arguments)
    assert (result.code, result.out) == (code, "")
    error, *advice = result.err.splitlines()
    assert message in error and hint in "".join(advice)


# create --description


@pytest.mark.usefixtures("little_effort")
def test_create_from_a_description_writes_prompts_and_makes_the_vector(
    on_tiny: Cli, generator: str, folder: Path, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    result = on_tiny("create", "wizard", "--description", WIZARD, "--generator", generator, "--quick")
    assert result.code == 0, result.err
    file = folder / "personas" / "wizard.toml"
    assert f"The system prompts are in {file}" in result.err
    metadata = store.load("persona", "wizard", tiny_model).metadata
    assert metadata.description == WIZARD
    assert list(metadata.system_prompts) == tomllib.loads(file.read_text())["system_prompts"]


def test_prompts_that_were_edited_are_used_as_they_are(
    cli: Cli, on_tiny: Cli, generator: str, server: FakeServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert written_by(cli, generator).code == 0
    file, asked = folder / "personas" / "wizard.toml", len(server.bodies)
    prompts = tomllib.loads(file.read_text())["system_prompts"]
    edited = "You are a wizard whom nobody edited before. You speak of newts and of nothing else."
    file.write_text(file.read_text().replace(json.dumps(prompts[0]), json.dumps(edited)))
    made: list[Persona] = []

    def stop(creator: Creator, subject: Persona, **options: object) -> None:
        made.append(subject)
        raise KeyboardInterrupt

    monkeypatch.setattr(Creator, "create", stop)
    result = on_tiny("create", "wizard", "--description", WIZARD, "--generator", generator)
    assert f"Using the system prompts of {file}" in result.err and len(server.bodies) == asked
    assert made[0].system_prompts == (edited, *prompts[1:])


def test_another_description_for_prompts_that_are_there_is_refused(
    cli: Cli, on_tiny: Cli, generator: str, folder: Path
) -> None:
    assert written_by(cli, generator).code == 0
    result = on_tiny("create", "wizard", "--description", "a merry cook", "--generator", generator)
    assert result.code == 2 and "another description" in result.err
    assert str(folder / "personas" / "wizard.toml") in result.err


def test_a_name_in_use_is_refused_before_anything_is_written(
    on_tiny: Cli, generator: str, server: FakeServer, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    store.save(make_vector(tiny_model, "wizard"))
    result = on_tiny("create", "wizard", "--description", WIZARD, "--generator", generator)
    assert result.code == 2 and "'wizard' exists already" in result.err and server.bodies == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--description", " "], "the description is empty"),
        (["--description", "x", "--trait", "calm"], "2 sources were given"),
        (["--trait", "calm", "--generator", "local"], "--generator was given without --description"),
    ],
)
def test_descriptions_that_cannot_be_used_are_refused_before_a_model_is_loaded(
    arguments: list[str], message: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("loaded"))
    result = cli("create", "wizard", *arguments)
    assert result.code == 2 and message in result.err


def test_a_remote_model_cannot_be_steered_and_says_so(cli: Cli, generator: str) -> None:
    result = cli("create", "sage", "--from-archetype", "sage", "--model", generator)
    assert result.code == 10 and "text only" in result.err and "--generator" in result.err


def test_too_few_questions_of_ones_own_are_refused_before_anything_is_asked(
    on_tiny: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_jsonl(load_questions(34), folder / "questions.jsonl")
    monkeypatch.setattr(TransformersBackend, "generate", lambda *a, **k: pytest.fail("asked"))
    result = on_tiny("create", "sage", "--from-archetype", "sage")
    assert result.code == 2 and "leave 14 for calibration, and 16 are needed" in result.err
    assert "datasets generate questions" in result.err


def written_by(cli: Cli, generator: str) -> Any:
    return cli("datasets", "generate", "archetype", "wizard", "--description", WIZARD, "--generator", generator)
