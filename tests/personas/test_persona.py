"""Personas from the library and from a user's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from persona_steering.errors import NotFoundError, UsageError
from persona_steering.personas import Persona, list_archetypes, load_archetype, load_prompts

FIRST = "You are a grumpy wizard who mutters about his knees."
SECOND = "Speak as an old mage in a leaking tower."


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_unknown_archetype_names_the_nearest_one() -> None:
    with pytest.raises(NotFoundError, match="unknown archetype 'pirat'") as caught:
        load_archetype("pirat")
    assert "'pirate'" in caught.value.hint


@pytest.mark.parametrize("name", ["../sage", "sage.toml", "", "/etc/passwd"])
def test_an_archetype_name_is_never_a_path(name: str) -> None:
    with pytest.raises(NotFoundError):
        load_archetype(name)


def test_hyphens_spaces_and_capitals_name_the_same_archetype() -> None:
    assert load_archetype("Noir-Detective") == load_archetype("noir detective") == load_archetype("noir_detective")


def test_every_listed_archetype_loads_under_its_own_name() -> None:
    assert [load_archetype(name).name for name in list_archetypes()] == list(list_archetypes())


def test_a_persona_is_frozen_and_closed() -> None:
    persona = Persona(name="wizard", system_prompts=(FIRST,))
    with pytest.raises(ValidationError):
        persona.name = "witch"
    with pytest.raises(ValidationError):
        Persona.model_validate({"name": "wizard", "system_prompts": [FIRST], "colour": "blue"})


def test_prompts_come_from_a_text_file_with_blank_lines_between(tmp_path: Path) -> None:
    path = write(tmp_path, "Grumpy Wizard.txt", f"\n{FIRST}\nHe sighs.\n \t\n\n{SECOND}\n\n")
    persona = load_prompts(path)
    assert persona.name == "grumpy-wizard"
    assert persona.source == "prompts:Grumpy Wizard.txt"
    assert persona.system_prompts == (f"{FIRST}\nHe sighs.", SECOND)


def test_prompts_come_from_windows_text_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "wizard.txt"
    path.write_bytes(f"\ufeff{FIRST}\r\n\r\n{SECOND}\r\n".encode())
    assert load_prompts(path).system_prompts == (FIRST, SECOND)


def test_prompts_come_from_json_lines(tmp_path: Path) -> None:
    odd = "You are a mage\u2028who writes odd line breaks."
    lines = "\n".join(json.dumps({"prompt": p}, ensure_ascii=False) for p in (FIRST, odd))
    assert load_prompts(write(tmp_path, "wizard.jsonl", lines + "\n\n")).system_prompts == (FIRST, odd)


@pytest.mark.parametrize(
    "data",
    [
        [FIRST, SECOND],
        {"system_prompts": [FIRST, SECOND]},
        {"instruction": [{"pos": FIRST}, {"pos": SECOND}], "questions": ["Who?"], "eval_prompt": "Rate it."},
    ],
)
def test_prompts_come_from_every_json_shape(tmp_path: Path, data: object) -> None:
    persona = load_prompts(write(tmp_path, "wizard.json", json.dumps(data)))
    assert (persona.name, persona.system_prompts) == ("wizard", (FIRST, SECOND))


def test_a_toml_file_gives_every_key_of_a_persona(tmp_path: Path) -> None:
    text = f'name = "merlin"\ntitle = "Merlin"\ntraits = ["old"]\nsystem_prompts = ["{FIRST}"]\n'
    persona = load_prompts(str(write(tmp_path, "wizard.toml", text)))
    assert persona == Persona(
        name="merlin", title="Merlin", traits=("old",), system_prompts=(FIRST,), source="prompts:wizard.toml"
    )


@pytest.mark.parametrize("name", list_archetypes()[:3])
def test_a_persona_written_as_json_comes_back(tmp_path: Path, name: str) -> None:
    persona = load_archetype(name)
    path = write(tmp_path, "copy.json", persona.model_dump_json(exclude={"source"}))
    assert load_prompts(path).model_copy(update={"source": persona.source}) == persona


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "holds no prompts"),
        ("a.txt", " \n\n \n", "holds no prompts"),
        ("a.json", "[]", "holds no prompts"),
        ("a.jsonl", "\n", "holds no prompts"),
        ("a.txt", "too short", r"a\.txt, 'system_prompts\.0'.*at least 10"),
        ("a.txt", "x" * 2001, "at most 2000"),
        ("a.txt", f"{FIRST}\n\n{FIRST.upper()}", "prompts 1 and 2 are the same"),
        ("a.txt", "\n\n".join(f"You are wizard number {i}." for i in range(21)), "at most 20 items"),
        ("a.json", "{", r"a\.json is not valid JSON.*line 1"),
        ("a.json", "3", r"a\.json is not an object"),
        ("a.json", json.dumps([FIRST, 3]), r"'system_prompts\.1'"),
        ("a.json", json.dumps({"system_prompts": FIRST}), "'system_prompts': Input should be a list"),
        ("a.json", json.dumps({"name": "a"}), "lacks the key 'system_prompts'"),
        ("a.json", json.dumps({"system_prompts": [FIRST], "source": "x"}), "key 'source'"),
        ("a.json", json.dumps({"instruction": [{"neg": FIRST}]}), r"instruction\.0"),
        ("a.json", json.dumps({"name": "../a", "system_prompts": [FIRST]}), "not a valid name"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        (
            "a.jsonl",
            '{"prompt": "You are a wizard."}\n{"promt": "x"}',
            r"a\.jsonl line 2 has the unknown key 'promt'",
        ),
        ("a.jsonl", '{"prompt": "You are a wizard."}\n\n{', r"a\.jsonl line 3 is not valid JSON"),
        ("a.jsonl", '"You are a wizard."', r"a\.jsonl line 1 is not an object"),
        ("a.toml", "system_prompts = [", r"a\.toml is not valid TOML"),
        (
            "a.toml",
            f'system_promts = ["{FIRST}"]',
            "unknown key 'system_promts'",
        ),
        ("a.yaml", "prompts: []", r"ending '\.yaml' is unknown"),
        ("a", FIRST, "ending '' is unknown"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_a_hint(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_prompts(write(tmp_path, name, text))
    assert caught.value.hint
    assert str(tmp_path) not in caught.value.message


def test_a_misspelt_key_names_the_right_one(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps({"system_prompts": [FIRST], "emphasiss": "x"}))
    with pytest.raises(UsageError, match="unknown key 'emphasiss'") as caught:
        load_prompts(path)
    assert "'emphasis'" in caught.value.hint


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        load_prompts(tmp_path / "none.txt")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a file"):
        load_prompts(tmp_path)


def test_a_name_too_long_for_the_file_system_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises((UsageError, NotFoundError)):
        load_prompts(tmp_path / ("x" * 5000 + ".txt"))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00You are")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_prompts(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(9 * 1024 * 1024)
    with pytest.raises(UsageError, match="at most"):
        load_prompts(path)
