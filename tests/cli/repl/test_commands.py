"""What each slash command does, and what it refuses. The commands run in a real chat on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Terminal
from tests.cli.repl.conftest import SHORT, Talk, contents

from persona_steering.backends.base import Request
from persona_steering.cli.repl.commands import COMMANDS
from persona_steering.engine.conversation import Conversation
from persona_steering.personas.preload import PreloadList
from persona_steering.vectors import ModelIdentity, VectorStore

pytestmark = pytest.mark.usefixtures("stored")


def test_the_prompt_shows_recipe_and_strength(talk: Talk) -> None:
    spoken = talk(
        "/persona sage",
        "/strength 0.6",
        "/blend sage:0.5, calm:-0.3",
        "/strength calm 0.25",
        "/persona calm -1.5",
        "/blend sage:0,calm",
        "/none",
    )
    assert spoken.prompts == [
        "base",
        "sage 1",
        "sage 0.6",
        "sage 0.5 · calm −0.3",
        "sage 0.5 · calm 0.25",
        "calm −1.5",
        "calm 1",
        "base",
    ]
    assert "beyond the strongest dose" in spoken.replies[4]


def test_the_next_answer_is_steered_as_chosen(talk: Talk, sent: list[Request]) -> None:
    talk("one", "/persona sage 0.5", "two", "/safety off", "three", "/none", "four")
    base, safe, raw, again = ([item.op for item in request.recipe.interventions] for request in sent)
    assert (base, safe, raw, again) == ([], ["add", "floor"], ["add"], [])


def test_safety_stays_off_for_the_next_persona(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("/safety off", "/persona calm", "one", "/safety on", "two")
    assert "Safety is off" in spoken.replies[0] and "Safety is on" in spoken.replies[3]
    assert [[item.op for item in request.recipe.interventions] for request in sent] == [["add"], ["add", "floor"]]


def test_a_weak_persona_is_warned_of(talk: Talk) -> None:
    assert "'bland' is weak on this model" in talk("/persona bland").replies[0]


def test_retry_asks_the_last_message_again_with_the_next_seed(talk: Talk, sent: list[Request]) -> None:
    talk("one", "two", "/retry", "/retry")
    assert [contents(request)[-1] for request in sent] == ["user: one", "user: two", "user: two", "user: two"]
    assert contents(sent[1]) == contents(sent[2]) == contents(sent[3])
    assert [request.sampling.seed for request in sent] == [3, 3, 4, 5]


def test_retry_after_a_change_keeps_the_seed_so_that_the_change_alone_shows(talk: Talk, sent: list[Request]) -> None:
    talk("one", "/persona sage", "/retry", "/set temperature 0.2", "/retry")
    assert [request.sampling.seed for request in sent] == [3, 3, 3]
    assert sent[0].recipe.hash != sent[1].recipe.hash == sent[2].recipe.hash


def test_undo_forgets_the_last_turn(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("one", "two", "/undo", "three")
    assert "Taken back: two" in spoken.replies[2]
    assert [line for line in contents(sent[-1]) if line.startswith("user")] == ["user: one", "user: three"]


def test_new_forgets_the_turns_and_keeps_the_rest(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("/system Be brief.", "/persona sage", "one", "/new", "two")
    assert contents(sent[-1]) == ["system: Be brief.", "user: two"]
    assert spoken.prompts[-1] == "sage 1"


def test_the_system_prompt_is_shown_set_and_removed(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("/system", "/system Be brief.", "one", "/system none", "two")
    assert "No system prompt" in spoken.replies[0] and "Be brief." in spoken.replies[1]
    assert contents(sent[0])[0] == "system: Be brief."
    assert contents(sent[1])[0] == "user: one"


def test_sampling_is_shown_and_changed(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("/set", "/set temperature 0.25", "/set max_new_tokens=4", "/seed 9", "one")
    assert "temperature 0.7 · top_p 0.95 · max_new_tokens 8 · seed 3" in spoken.replies[0]
    (request,) = sent
    assert (request.sampling.temperature, request.sampling.max_new_tokens, request.sampling.seed) == (0.25, 4, 9)


def test_a_random_seed_differs_from_turn_to_turn_and_is_said(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("/seed random", "one", "/new", "one")
    first, second = (request.sampling.seed for request in sent)
    assert first != second
    assert f"seed {first}" in spoken.replies[1]


def test_compare_answers_base_and_steered_with_one_seed(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("/compare on", "zero", "/new", "/persona sage 0.5", "one", "/compare off", "two")
    alone, base, steered, last = sent
    assert "From when something is steered" in spoken.replies[0]
    assert not alone.recipe and not base.recipe and steered.recipe
    assert base.messages == steered.messages and base.sampling == steered.sampling
    assert "[base]" in spoken.result.out and "[sage:0.5]" in spoken.result.out
    kept = contents(last)[1].removeprefix("assistant: ")
    assert kept in spoken.result.out.partition("[sage:0.5]\n")[2]  # the conversation goes on with the steered one


def test_why_tells_what_was_applied_and_how_often_the_floor_acted(talk: Talk) -> None:
    spoken = talk("/why", "/persona sage 0.5", "/why", "one", "/why", "/strength 0.7", "/why")
    assert "Nothing is applied" in spoken.replies[0]
    assert "adds sage" in spoken.replies[2] and "layers 1-2 · dose 0." in spoken.replies[2]
    assert "floor on safety" in spoken.replies[2]
    assert "In the last answer the bounds acted on " in spoken.replies[4]
    assert "made with another recipe: sage:0.5" in spoken.replies[6]


def test_status_tells_what_the_next_answer_is_made_with(talk: Talk, tiny_model: ModelIdentity) -> None:
    said = talk("/persona sage 0.5", "one", "/status").replies[2]
    for part in (tiny_model.id, "sage:0.5", "on", "temperature 0.7", "1 turns", "of 1024 tokens", "none"):
        assert part in said


def test_list_shows_the_personas_and_traits_and_which_are_in_memory(talk: Talk) -> None:
    shown = talk("/load calm", "/list").result.out.splitlines()
    assert {line.split()[0]: "yes" in line for line in shown[1:]} == {
        "bland": False,
        "calm": True,
        "raw": False,
        "sage": False,
    }


def test_load_and_unload_change_what_is_in_memory(talk: Talk) -> None:
    spoken = talk("/load sage", "/load calm", "/unload sage", "/status")
    assert "calm" in spoken.replies[3].partition("in memory")[2]
    assert "sage" not in spoken.replies[3].partition("in memory")[2]


def test_the_preload_list_of_the_workspace_is_loaded(talk: Talk, home: Path, tiny_model: ModelIdentity) -> None:
    PreloadList(home / "data").add(tiny_model, ["calm", "gone"])
    spoken = talk("/status")
    assert "'gone' of the preload list was not loaded" in spoken.result.err
    assert "calm" in spoken.replies[0].partition("in memory")[2]


def test_what_was_said_is_saved_and_opened_again(talk: Talk, sent: list[Request], tmp_path: Path) -> None:
    talk("/persona sage 0.5", "one", "/save talk.json", "two", "/save talk.json", "/save talk.md")
    saved = Conversation.load(tmp_path / "talk.json")
    assert [turn.question for turn in saved.turns] == ["one", "two"]
    assert {turn.steering for turn in saved.turns} == {"sage:0.5"}
    assert "**sage:0.5**" in (tmp_path / "talk.md").read_text()
    spoken = talk("/open talk.json", "three", "/save talk.json")
    assert "Going on after 2 turns" in spoken.replies[0]
    assert [line for line in contents(sent[-1]) if line.startswith("user")] == ["user: one", "user: two", "user: three"]


def test_edit_sends_what_the_editor_leaves(
    talk: Talk, sent: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "and more" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    talk("one", "/edit last", "/edit")
    assert contents(sent[1]) == ["user: one\nand more"]
    assert contents(sent[2])[-1] == "user: and more"


@pytest.mark.usefixtures("little_effort")
def test_create_makes_a_persona_on_the_loaded_model_and_steers_with_it(
    talk: Talk, store: VectorStore, tiny_model: ModelIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_steering.backends import wrapper

    loads: list[str] = []
    load = wrapper.load
    monkeypatch.setattr(wrapper, "load", lambda name, **options: loads.append(name) or load(name, **options))
    spoken = talk("/create mate --from-archetype pirate --quick", "one")
    assert store.load("persona", "mate", tiny_model).metadata.safe_calibration is not None
    assert spoken.prompts[1] == "mate 1"
    assert len(loads) == 1
    assert "persona-steer chat" not in spoken.replies[0]


# Every command with what it must not accept, and a part of what it then says.
BAD = [
    ("/persona", "needs an argument"),
    ("/persona sgae", "Did you mean 'sage'?"),
    ("/persona ../x", "name"),
    ("/persona sage 3", "out of range"),
    ("/persona sage 0.5 calm", "takes one name"),
    ("/strength 0.5", "nothing is steered"),
    ("/blend sage:much", "not a strength"),
    ("/blend sage,sage", "twice"),
    ("/blend sage:0.5,nobody", "unknown persona or trait 'nobody'"),
    ("/none now", "takes no argument"),
    ("/safety maybe", "neither on nor off"),
    ("/safety", "needs an argument"),
    ("/status now", "takes no argument"),
    ("/why not", "takes no argument"),
    ("/list all", "takes no argument"),
    ("/load", "needs an argument"),
    ("/load sgae", "Did you mean 'sage'?"),
    ("/unload calm", "unknown loaded persona 'calm'"),
    ("/create", "needs an argument"),
    ("/create mate", "sources were given"),
    ("/create mate --from-archetype pirat", "Did you mean 'pirate'"),
    ("/create mate --from-archetype 'pirate", "quotation"),
    ("/create mate --from-archtype pirate", "no such option"),
    ("/create mate --from-archetype pirate --model embedded", "cannot be changed here"),
    ("/create sage --from-archetype sage", "exists already"),
    ("/retry", "no turn yet"),
    ("/undo", "no turn yet"),
    ("/edit last", "no turn yet"),
    ("/edit first", "not known"),
    ("/new day", "takes no argument"),
    ("/save talk.json", "nothing to save"),
    ("/open talk.json", "no file"),
    ("/seed x", "seed cannot be 'x'"),
    ("/seed -1", "seed cannot be '-1'"),
    ("/set temprature 1", "Did you mean 'temperature'?"),
    ("/set temperature", "gives no value"),
    ("/set temperature hot", "0 is greedy"),
    ("/set top_p none", "top_p cannot be 'none'"),
    ("/compare maybe", "neither on nor off"),
    ("/help nosuch", "unknown command /nosuch"),
    ("/quit now", "takes no argument"),
    ("/", "unknown command /"),
    ("/quti", "Did you mean '/quit'"),
]


def test_every_command_refuses_what_it_cannot_honour_and_the_chat_goes_on(talk: Talk, sent: list[Request]) -> None:
    spoken = talk(*(line for line, _ in BAD), "still here")
    wrong = [
        (line, said)
        for (line, part), said in zip(BAD, spoken.replies, strict=False)
        if not said.startswith("error: ") or part not in said
    ]
    assert not wrong
    assert spoken.prompts == ["base"] * (len(BAD) + 2)
    assert [contents(request) for request in sent] == [["user: still here"]]
    assert {line.split()[0][1:] for line, _ in BAD} >= set(COMMANDS) - {"system"}  # which takes any text


def test_what_is_wrong_only_while_something_steers_is_refused_too(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text("{}")
    lines = {
        "/strength much": "not a strength",
        "/strength bland 0.5": "'bland' is not steered now",
        "/unload sage": "is steering now",
        "/save talk.json": "exists already",
        "/save talk.txt": "not saved as .txt",
        "/open talk.json": "not a saved conversation",
    }
    spoken = talk("/persona sage", "one", *lines)
    for (line, part), said in zip(lines.items(), spoken.replies[2:], strict=False):
        assert part in said, line
    assert set(spoken.prompts[1:]) == {"sage 1"}
    assert "is not clear" in talk("/blend sage:0.5,calm:0.2", "/strength 0.4").replies[1]


def test_without_a_safety_axis_a_persona_needs_safety_off(
    talk: Talk, stored: VectorStore, tiny_model: ModelIdentity
) -> None:
    stored.delete("axis", "safety", tiny_model)
    spoken = talk("/persona sage", "/safety off", "/persona sage", "/safety on")
    assert "no safety axis" in spoken.replies[0]
    assert spoken.prompts == ["base", "base", "base", "sage 1", "sage 1"]
    assert "no safety axis" in spoken.replies[3]


def test_an_editor_that_fails_is_said(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "false")
    assert "editor did not work" in talk("/edit").replies[0]


def test_a_conversation_too_long_for_the_context_says_how_to_go_on(talk: Talk, sent: list[Request]) -> None:
    spoken = talk("hi " * 2000, "one", "hi " * 340, "two")
    assert "context holds 1024" in spoken.replies[0] and "Shorten the prompt" in spoken.replies[0]
    assert "/undo drops the last turn" in spoken.replies[2]
    assert contents(sent[-1])[0] == "user: one" and contents(sent[-1])[-1] == "user: two"


def test_quiet_says_nothing_but_answers_and_errors(on_tiny: Cli) -> None:
    result = on_tiny("chat", "-q", *SHORT, stdin=Terminal("one\n/nosuch\n"))
    assert result.code == 0 and result.out.strip()
    assert result.err.replace("base ❯ ", "").splitlines()[0].startswith("error: unknown command")
