"""Conversations over HTTP: what is asked and answered is a tree that is kept, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.server.api import MODEL, Api, make_state, running
from tests.server.streams import events_of

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.errors import ModelMemoryError, StorageError
from persona_steering.server.answers import writing
from persona_steering.server.answers.writing import Writing
from persona_steering.server.door.security import Door
from persona_steering.server.ids import new_id
from persona_steering.server.limits import LIMITS
from persona_steering.server.stores.conversation_models import Draft, Made, MessageNode
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database, database_file

ROOT = "/api/v1/conversations"
SEEDED = {"seed": 5, "max_tokens": 8}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("conversations")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


def begin(http: httpx2.Client, **body: Any) -> str:
    return str(http.post(ROOT, json=body).raise_for_status().json()["id"])


def say(http: httpx2.Client, it: str, content: str = "hello", **body: Any) -> Any:
    asked = {"content": content, "sampling": SEEDED, **body}
    return http.post(f"{ROOT}/{it}/messages", json=asked).raise_for_status().json()


def again(http: httpx2.Client, it: str, message: str, **body: Any) -> Any:
    asked = {"sampling": SEEDED, **body}
    return http.post(f"{ROOT}/{it}/messages/{message}/answers", json=asked).raise_for_status().json()


def path(http: httpx2.Client, it: str, **query: str) -> list[Any]:
    return list(http.get(f"{ROOT}/{it}/path", params=query).raise_for_status().json()["messages"])


def tree(http: httpx2.Client, it: str) -> list[Any]:
    return list(http.get(f"{ROOT}/{it}/messages").raise_for_status().json()["messages"])


def refusal(response: httpx2.Response, status: int, code: str) -> str:
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    return str(response.json()["error"]["message"])


def test_a_message_is_answered_as_the_engine_would_and_both_are_kept(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    said = say(http, it, "hello", system="Be brief.")
    messages = (Message("system", "Be brief."), Message("user", "hello"))
    sampling = Sampling.configured(api.serving.config.generation, seed=5, max_new_tokens=8)
    alone = api.state.slot.open_backend().generate([Request(messages, sampling=sampling)])[0]
    answer = said["answer"]
    assert (answer["content"], answer["status"], answer["made"]["finish_reason"]) == (alone.text, "complete", "length")
    assert (answer["made"]["model"], answer["made"]["sampling"]) == (MODEL, json.loads(sampling.model_dump_json()))
    assert answer["made"]["segments"] == [{"from_token": 0, "asked": None, "applied": None}]
    assert (said["steering"], said["usage"]["completion_tokens"]) == (None, 8)
    assert said["usage"]["prompt_tokens"] == answer["made"]["prompt_tokens"] == alone.prompt_tokens
    assert said["timings"]["total_s"] >= said["timings"]["first_token_s"] >= said["timings"]["queued_s"] >= 0
    assert path(http, it) == tree(http, it) == [said["system"], said["user"], answer]


def test_the_next_message_is_asked_with_all_that_was_said_before(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    first = say(http, it, "one")["answer"]["content"]
    second = say(http, it, "two")["answer"]
    messages = (Message("user", "one"), Message("assistant", first), Message("user", "two"))
    sampling = Sampling.configured(api.serving.config.generation, seed=5, max_new_tokens=8)
    assert second["content"] == api.state.slot.open_backend().generate([Request(messages, sampling=sampling)])[0].text


def test_a_steered_answer_keeps_what_was_asked_and_what_was_applied(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    asked = {"personas": {"sage": 0.6}, "safety": True}
    said = say(http, it, steering=asked)
    (segment,) = said["answer"]["made"]["segments"]
    recipe = api.serving.steering({"sage": 0.6}, safety=True, layers={}).recipe
    assert segment["asked"]["personas"] == {"sage": 0.6}
    assert segment["applied"]["hash"] == said["steering"]["hash"] == recipe.hash
    assert said["steering"]["caps_engaged"] == said["answer"]["made"]["caps_engaged"]
    repeated = again(http, it, said["user"]["id"], steering=segment["asked"])
    assert repeated["answer"]["content"] == said["answer"]["content"], "what is kept is enough to make it again"
    assert again(http, it, said["user"]["id"], steering="sage:0.6")["steering"]["hash"] == recipe.hash


@pytest.mark.parametrize("steering", [None, "sage:1,calm:-0.5"])
def test_what_is_streamed_is_what_is_kept_and_what_one_answer_without_a_stream_is(
    steering: object, http: httpx2.Client
) -> None:
    it = begin(http)
    body = {"content": "hello", "sampling": SEEDED, "steering": steering, "stream": True, "logprobs": True}
    with http.stream("POST", f"{ROOT}/{it}/messages", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(events_of(response))
    (_, start), *tokens, (last, done) = events
    assert [name for name, _ in events] == ["start", *["token"] * len(tokens), "done"] and last == "done"
    assert (start["answer"]["status"], start["seed"], start["user"]["content"]) == ("writing", 5, "hello")
    assert "".join(token["text"] for _, token in tokens) == done["answer"]["content"]
    written = [token for _, token in tokens if token["token"] is not None]
    assert [token["i"] for token in written] == list(range(8))
    assert all(token["logprob"] < 0 for token in written)
    assert path(http, it) == [start["user"], done["answer"]]
    assert (start["steering"] is None) == (done["steering"] is None) == (steering is None)
    whole = again(http, it, start["user"]["id"], steering=steering)
    assert whole["answer"]["content"] == done["answer"]["content"]


def test_a_stream_tells_readings_with_the_index_of_their_token(http: httpx2.Client) -> None:
    body = {
        "content": "hello",
        "sampling": SEEDED,
        "steering": {"personas": {"sage": 1}, "trace": {"axes": ["sage", "safety"]}},
        "stream": True,
    }
    with http.stream("POST", f"{ROOT}/{begin(http)}/messages", json=body) as response:
        tokens = [data for name, data in events_of(response) if name == "token"]
    read = {one["i"]: one["axes"] for token in tokens for one in token["readings"]}
    assert sorted(read) == list(range(7)), "the last token was never fed back"
    assert all(set(axes) == {"sage", "safety"} and len(axes["sage"]) == 2 for axes in read.values())
    assert any(axes["sage"][0] != axes["sage"][1] for axes in read.values()), "steering shows"


def test_to_edit_and_to_answer_again_begin_other_branches(http: httpx2.Client) -> None:
    it = begin(http)
    first = say(http, it, "one")
    second = say(http, it, "two")
    other = again(http, it, second["user"]["id"], sampling={"seed": 6, "max_tokens": 8})["answer"]
    assert path(http, it) == [first["user"], first["answer"], second["user"], other]
    edited = say(http, it, "deux", parent_id=first["answer"]["id"])
    assert path(http, it) == [first["user"], first["answer"], edited["user"], edited["answer"]]
    fresh = say(http, it, "zero", parent_id=None, system="Be brief.")
    assert path(http, it) == [fresh["system"], fresh["user"], fresh["answer"]]
    assert path(http, it, leaf=second["answer"]["id"])[-1] == second["answer"]
    shown = http.patch(f"{ROOT}/{it}", json={"leaf_id": other["id"]}).json()
    assert shown["leaf_id"] == path(http, it)[-1]["id"] == other["id"]
    left = http.delete(f"{ROOT}/{it}/messages/{second['user']['id']}").json()
    assert left["leaf_id"] == first["answer"]["id"]
    assert {one["id"] for one in tree(http, it)}.isdisjoint({second["answer"]["id"], other["id"]})
    assert len(tree(http, it)) == 7


def test_a_message_can_be_kept_without_an_answer(http: httpx2.Client) -> None:
    it = begin(http)
    kept = say(http, it, "Later.", answer=False)
    assert (kept["answer"], path(http, it)) == (None, [kept["user"]])
    assert again(http, it, kept["user"]["id"])["answer"]["parent_id"] == kept["user"]["id"]


def test_a_seed_that_is_drawn_is_told_and_gives_the_same_answer_again(http: httpx2.Client) -> None:
    it = begin(http)
    sampling = {"max_tokens": 12, "temperature": 1.5}
    said = say(http, it, sampling=sampling)
    seed = said["answer"]["made"]["sampling"]["seed"]
    repeated = again(http, it, said["user"]["id"], sampling={**sampling, "seed": seed})
    assert repeated["answer"]["content"] == said["answer"]["content"]
    assert again(http, it, said["user"]["id"], sampling=sampling)["answer"]["made"]["sampling"]["seed"] != seed


def test_whoever_leaves_stops_the_answer_and_what_there_was_is_kept(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    body = {"content": "hello", "sampling": {"seed": 5, "max_tokens": 1500}, "stream": True}
    heard = ""
    with api.client() as leaving, leaving.stream("POST", f"{ROOT}/{it}/messages", json=body) as response:
        for name, data in events_of(response):
            heard += data["text"] if name == "token" else ""
            if len(heard) > 20:
                break
    api.wait_until_idle()
    left = ended(http, it)
    assert left["status"] == "stopped" and left["content"].startswith(heard)
    assert 0 < left["made"]["tokens"] < 1500 and left["made"]["finish_reason"] == "cancelled"
    assert say(http, it, "And now?")["answer"]["status"] == "complete"


def ended(http: httpx2.Client, it: str) -> Any:
    """The newest message, once nothing is written."""
    for _ in range(500):
        last = path(http, it)[-1]
        if last["status"] != "writing":
            return last
        time.sleep(0.01)
    raise AssertionError("still being written")


def test_while_an_answer_is_written_it_can_be_read_and_nothing_follows_it(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    body = {"content": "hello", "sampling": {"seed": 5, "max_tokens": 1500}, "stream": True}
    with api.client() as writing, writing.stream("POST", f"{ROOT}/{it}/messages", json=body) as response:
        events = events_of(response)
        _, start = next(events)
        refused = http.post(f"{ROOT}/{it}/messages", json={"content": "Wait."})
        assert "still being written" in refusal(refused, 409, "conflict")
        grown = (path(http, it)[-1] for _ in range(1000) if time.sleep(0.01) is None)
        growing = next(one for one in grown if one["content"])
        assert (growing["id"], growing["status"]) == (start["answer"]["id"], "writing")
        beside = again(http, it, start["user"]["id"])
        assert beside["answer"]["status"] == "complete", "a question may be answered twice at once"
    api.wait_until_idle()


def test_an_answer_that_a_full_disk_broke_off_ends_as_soon_as_there_is_room(
    api: Api, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: ConversationStore, *args: Any, **options: Any) -> MessageNode:
        raise StorageError("the disk is full.")

    it = begin(http)
    with monkeypatch.context() as full:
        full.setattr(writing, "AGAIN", 0.05)
        full.setattr(ConversationStore, "update_writing", refuse)
        asked = {"content": "hello", "sampling": SEEDED}
        assert "disk is full" in refusal(http.post(f"{ROOT}/{it}/messages", json=asked), 507, "storage_failed")
        assert path(http, it)[-1]["status"] == "writing"
    for _ in range(1000):
        if path(http, it)[-1]["status"] != "writing":
            break
        time.sleep(0.01)
    last = path(http, it)[-1]
    assert (last["status"], last["made"]["error"]) == ("failed", "the disk is full.")
    assert say(http, it, "Once more.")["answer"]["status"] == "complete"


def test_an_answer_whose_message_is_deleted_ends(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    body = {"content": "hello", "sampling": {"seed": 5, "max_tokens": 1500}, "stream": True}
    with api.client() as writing, writing.stream("POST", f"{ROOT}/{it}/messages", json=body) as response:
        events = events_of(response)
        next(events)
        http.delete(f"{ROOT}/{it}").raise_for_status()
        *_, (name, last) = events
    assert (name, last["error"]["code"], last["answer"]) == ("error", "not_found", None)
    api.wait_until_idle()


def test_what_is_refused_at_once_leaves_nothing_behind(http: httpx2.Client) -> None:
    it = begin(http)

    def refused(status: int, code: str, **body: Any) -> str:
        said = refusal(http.post(f"{ROOT}/{it}/messages", json={"content": "hello", **body}), status, code)
        assert tree(http, it) == []
        return said

    refused(400, "context_length_exceeded", content="long " * 3000)
    refused(404, "persona_not_found", steering="saeg:0.5")
    refused(400, "invalid_steering", steering={"personas": {"sage": 5}})
    refused(400, "invalid_value", content="")
    refused(400, "invalid_value", sampling={"max_tokens": LIMITS.max_tokens + 1})
    assert "'temprature'" in refused(400, "invalid_value", sampling={"temprature": 1})
    refused(404, "not_found", parent_id=new_id("msg"))
    refused(400, "invalid_value", parent_id="../../etc/passwd")
    half = http.post(
        f"{ROOT}/{it}/messages", content=b'{"content": "\\ud800"}', headers={"content-type": "application/json"}
    )
    refusal(half, 400, "invalid_value")
    assert tree(http, it) == []


def test_where_too_many_wait_the_message_is_refused_and_not_kept(api: Api, http: httpx2.Client) -> None:
    it = begin(http)
    lanes = {"messages": [{"role": "user", "content": "x"}], "lanes": [{}] * 4, "stream": True}
    lanes["sampling"] = {"max_tokens": 1900}
    with (
        api.client() as one,
        api.client() as other,
        one.stream("POST", "/api/v1/compare", json=lanes) as first,
        other.stream("POST", "/api/v1/compare", json=lanes) as second,
    ):
        begun = [events_of(first), events_of(second)]
        assert [next(events)[0] for events in begun] == ["start", "start"]
        refused = http.post(f"{ROOT}/{it}/messages", json={"content": "hello"})
    refusal(refused, 429, "queue_full")
    assert refused.headers["retry-after"] and tree(http, it) == []
    api.wait_until_idle()


def test_an_answer_that_fails_later_is_kept_with_the_reason(
    api: Api, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Writing) -> None:
        raise ModelMemoryError("out of memory in /secret/place.")

    monkeypatch.setattr(Writing, "store", fail)
    it = begin(http)
    body = {"content": "hello", "sampling": {"seed": 5, "max_tokens": 1500}, "stream": True}
    with http.stream("POST", f"{ROOT}/{it}/messages", json=body) as response:
        *_, (name, last) = events_of(response)
    assert (name, last["error"]["code"]) == ("error", "out_of_memory")
    left = path(http, it)[-1]
    assert left == last["answer"] and left["status"] == "failed"
    assert "out of memory" in left["made"]["error"] and "secret" not in left["made"]["error"]
    api.wait_until_idle()


def test_a_system_prompt_stands_before_the_first_message_only(http: httpx2.Client) -> None:
    it = begin(http)
    say(http, it, answer=False)
    late = http.post(f"{ROOT}/{it}/messages", json={"content": "hello", "system": "Be brief."})
    assert "first message" in refusal(late, 400, "invalid_value")


def test_only_questions_of_the_same_conversation_are_answered(http: httpx2.Client) -> None:
    it, other = begin(http), begin(http)
    said = say(http, it)
    answer = http.post(f"{ROOT}/{it}/messages/{said['answer']['id']}/answers", json={})
    assert "no question" in refusal(answer, 400, "invalid_value")
    foreign = http.post(f"{ROOT}/{other}/messages/{said['user']['id']}/answers", json={})
    assert "another conversation" in refusal(foreign, 400, "invalid_value")
    deleted = http.delete(f"{ROOT}/{other}/messages/{said['user']['id']}")
    assert "another conversation" in refusal(deleted, 400, "invalid_value")


def test_a_change_of_another_version_is_refused(http: httpx2.Client) -> None:
    it = begin(http, title="a")
    found = http.get(f"{ROOT}/{it}")
    tag = found.headers["etag"]
    renamed = http.patch(f"{ROOT}/{it}", json={"title": "b"}, headers={"if-match": tag})
    assert (renamed.json()["title"], renamed.headers["etag"] != tag) == ("b", True)
    for late in (
        http.patch(f"{ROOT}/{it}", json={"title": "c"}, headers={"if-match": tag}),
        http.delete(f"{ROOT}/{it}", headers={"if-match": tag}),
        http.post(f"{ROOT}/{it}/messages", json={"content": "x", "answer": False}, headers={"if-match": tag}),
        http.post(f"{ROOT}/{it}/messages", json={"content": "x", "sampling": SEEDED}, headers={"if-match": tag}),
    ):
        refusal(late, 412, "precondition_failed")
    refusal(http.delete(f"{ROOT}/{it}", headers={"if-match": "b"}), 400, "invalid_value")
    assert tree(http, it) == []
    assert http.delete(f"{ROOT}/{it}", headers={"if-match": renamed.headers["etag"]}).status_code == 204
    refusal(http.get(f"{ROOT}/{it}"), 404, "not_found")


def test_a_conversation_is_called_after_its_first_question_until_it_is_renamed(http: httpx2.Client) -> None:
    it = begin(http)

    def title() -> str:
        return str(http.get(f"{ROOT}/{it}").json()["title"])

    assert title() == ""
    say(http, it, "  What\ndoes the\tfox say?", answer=False)
    assert title() == "What does the fox say?"
    say(http, it, "And the cow?", answer=False)
    assert title() == "What does the fox say?"
    http.patch(f"{ROOT}/{it}", json={"title": ""})
    say(http, it, "antidisestablishmentarianism " * 9, answer=False)
    assert title() == "antidisestablishmentarianism antidisestablishmentarianism…"
    refusal(http.patch(f"{ROOT}/{it}", json={"title": "x" * 201}), 400, "invalid_value")


def test_conversations_are_found_by_title_and_text_in_any_language(http: httpx2.Client) -> None:
    made = {
        name: begin(http, title=title)
        for name, title in {"a": "Über Ärger", "b": "50% off_er", "c": "猫について", "d": "plain"}.items()
    }
    say(http, made["d"], "The\n quick brown fox " * 30 + "found the NEEDLE" + " and ran" * 40, answer=False)

    def found(text: str) -> list[str]:
        page = http.get(ROOT, params={"q": text, "limit": 100}).json()
        return [name for one in page["data"] for name, it in made.items() if it == one["id"]]

    assert found("äRGER") == found("A\u0308rger") == ["a"]
    assert found("50%") == ["b"] and found("%%") == found("50_") == []
    assert found("について") == ["c"]
    assert found("needle") == found(" NEEDLE ") == ["d"]
    assert found("' OR 1=1 --") == []
    match = next(one for one in http.get(ROOT, params={"q": "needle"}).json()["data"])["match"]
    assert match["message_id"] == tree(http, made["d"])[0]["id"]
    assert "found the NEEDLE and ran" in match["excerpt"] and len(match["excerpt"]) < 150
    assert http.get(ROOT).json()["data"][0]["match"] is None
    refusal(http.get(ROOT, params={"q": "x" * 201}), 400, "invalid_value")


def test_lists_come_in_pages_also_when_something_is_searched_for(http: httpx2.Client) -> None:
    made = [begin(http, title=f"paged {i}") for i in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"q": "PAGED", "limit": 2, "order": "asc"}
    while True:
        page = http.get(ROOT, params=query).json()
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert seen == made
    refusal(http.get(ROOT, params={"limit": 101}), 400, "invalid_value")


HOSTILE = (
    "</script><script>alert(1)</script>",
    "'; DROP TABLE messages; --",
    "\u0000\u0001\u2028\u202e\ufeff\U0001f9d9\u200d\U0001f469",
    "data: {}\n\nevent: done\ndata: {}\n\n",
    "__import__('os') {{7*7}} ${x} %s %n",
    "a" * 100_000,
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_kept_as_it_is(text: str, http: httpx2.Client) -> None:
    it = begin(http, title=text[:200])
    kept = say(http, it, text, answer=False, system=text)
    assert (kept["system"]["content"], kept["user"]["content"]) == (text, text)
    assert [one["content"] for one in tree(http, it)] == [text, text]
    assert http.get(f"{ROOT}/{it}").json()["title"] == text[:200]
    assert http.get(ROOT, params={"q": text[:100]}).json()["data"][0]["id"] == it
    exported = http.get(f"{ROOT}/{it}/export").json()
    assert [one["content"] for one in exported["messages"]] == [text, text]


def test_an_exported_tree_comes_back_whole(http: httpx2.Client) -> None:
    it = begin(http)
    first = say(http, it, "one", steering="sage:0.5", system="Be brief.")
    again(http, it, first["user"]["id"])
    say(http, it, "two", parent_id=first["answer"]["id"])
    exported = http.get(f"{ROOT}/{it}/export")
    assert exported.headers["content-disposition"] == f'attachment; filename="{it}.json"'
    back = http.post(f"{ROOT}/import", json=exported.json())
    assert back.status_code == 201
    again_exported = http.get(f"{ROOT}/{back.json()['id']}/export").json()

    def plain(file: dict[str, Any]) -> dict[str, Any]:
        places = {message["id"]: place for place, message in enumerate(file["messages"])} | {None: None}
        messages = [{**one, "id": places[one["id"]], "parent_id": places[one["parent_id"]]} for one in file["messages"]]
        return {**file, "leaf_id": places[file["leaf_id"]], "messages": messages}

    assert plain(again_exported) == plain(exported.json())
    assert {one["id"] for one in tree(http, it)}.isdisjoint(one["id"] for one in again_exported["messages"])


def test_a_file_that_is_no_tree_is_refused(http: httpx2.Client) -> None:
    def message(name: str, parent: str | None = None, **more: Any) -> dict[str, Any]:
        return {"id": name, "parent_id": parent, "role": "user", "content": "x", "created_at": 0, **more}

    def refused(messages: list[dict[str, Any]], **more: Any) -> str:
        file = {"format": "persona-steering conversation tree", "created_at": 0, "messages": messages, **more}
        return refusal(http.post(f"{ROOT}/import", json=file), 400, "invalid_value")

    before = http.get(ROOT, params={"limit": 1}).json()["first_id"]
    assert "no parent 'b'" in refused([message("a", "b"), message("b")])
    assert "no parent 'a'" in refused([message("a", "a")])
    assert "two messages" in refused([message("a"), message("a")])
    assert "not the first" in refused([message("a"), message("b", "a", role="system")])
    assert "leaf_id" in refused([message("a")], leaf_id="b")
    refused([message("a", role="root")])
    refused([message("a")], version=2)
    refused([message("a")], format="persona-steering conversation")
    assert http.get(ROOT, params={"limit": 1}).json()["first_id"] == before


def test_a_branch_is_exported_to_be_read(http: httpx2.Client) -> None:
    it = begin(http, title="Foxes\n# not a heading")
    said = say(http, it, "What does it say?\nTell me.", steering="sage:0.5", system="Be brief.")
    text = http.get(f"{ROOT}/{it}/export", params={"format": "md"})
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith(f"# Foxes # not a heading\n\nModel: {MODEL}\n\n**System prompt**\n\n> Be brief.\n\n")
    assert "**You**\n\n> What does it say?\n> Tell me.\n\n**Answer, sage:0.5**" in text.text
    assert said["answer"]["content"] in text.text
    refusal(http.get(f"{ROOT}/{it}/export", params={"format": "exe"}), 400, "invalid_value")


def test_a_conversation_that_is_longer_than_may_be_sent_is_still_read_and_not_answered(
    api: Api, http: httpx2.Client
) -> None:
    it = begin(http)
    drafts = [Draft("assistant" if i % 2 else "user", f"message {i}") for i in range(LIMITS.messages)]
    api.state.conversations.add_messages(it, drafts)
    assert [one["content"] for one in path(http, it)] == [draft.content for draft in drafts]
    late = http.post(f"{ROOT}/{it}/messages", json={"content": "One more."})
    assert f"{LIMITS.messages} is the most" in refusal(late, 400, "invalid_value")


def test_news_tell_which_conversation_changed(api: Api, http: httpx2.Client) -> None:
    told: list[tuple[str, str, str | None]] = []
    api.state.conversations.listen(lambda *news: told.append(news))
    it = begin(http)
    said = say(http, it)
    answer = said["answer"]["id"]
    http.patch(f"{ROOT}/{it}", json={"title": "New"})
    http.delete(f"{ROOT}/{it}/messages/{answer}")
    http.delete(f"{ROOT}/{it}")
    assert told == [
        (it, "made", None),
        (it, "made", answer),
        (it, "changed", answer),
        (it, "changed", None),
        (it, "deleted", answer),
        (it, "deleted", None),
    ]


def test_without_a_model_conversations_are_kept_and_not_answered(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.slot.unload()
    with running(state, Door.at("127.0.0.1")) as api, api.client() as http:
        it = begin(http)
        kept = say(http, it, answer=False)
        refusal(http.post(f"{ROOT}/{it}/messages", json={"content": "hello"}), 503, "no_model")
        assert tree(http, it) == [kept["user"]]


def test_a_server_that_stops_interrupts_the_answer_and_says_so(tmp_path: Path) -> None:
    with running(make_state(tmp_path), Door.at("127.0.0.1")) as api, api.client() as http:
        it = begin(http)
        body = {"content": "hello", "sampling": {"seed": 5, "max_tokens": 1900}, "stream": True}
        with http.stream("POST", f"{ROOT}/{it}/messages", json=body) as response:
            events = events_of(response)
            heard = [next(events) for _ in range(5)]
            api.state.end_answers()
            *more, (name, last) = events
        assert (name, last["error"]["code"]) == ("error", "shutting_down")
        left = path(http, it)[-1]
        assert (left, left["status"]) == (last["answer"], "interrupted")
        assert left["content"] == "".join(data["text"] for name, data in heard + more if name == "token")


def test_a_server_that_is_killed_in_mid_answer_leaves_its_text_to_the_next(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.server.talking_server", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        it, heard = json.loads(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    database = Database(database_file(tmp_path))
    try:
        store = ConversationStore(database)
        assert store.path(it)[-1].status == "writing"
        assert store.interrupt_writing() == 1
        question, answer = store.path(it)
        assert (question.content, answer.status) == ("hello", "interrupted")
        assert answer.content.startswith(heard) and heard
        assert isinstance(answer.made, Made) and answer.made.tokens > 0
    finally:
        database.close()
