"""Conversations as trees, presets, the index of runs, and lists in pages."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from persona_steering.backends.base import Sampling
from persona_steering.errors import ConflictError, NotFoundError, UsageError
from persona_steering.server.ids import check_id, new_id
from persona_steering.server.paging import PageQuery
from persona_steering.server.schemas.steering import AppliedSteering, AppliedVector, SteeringRequest
from persona_steering.server.stores.conversation_models import ConversationEdit, Made, Segment, Timings
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database
from persona_steering.server.stores.presets import PresetStore
from persona_steering.server.stores.runs import RunStore

APPLIED = AppliedSteering(
    hash="abc",
    short="sage:0.5",
    applied=[AppliedVector(name="sage", kind="persona", coefficient=0.5, layers=[1], relative_dose=0.1)],
    caps=[],
    safety=False,
    recipe=[{"op": "add", "layers": [1]}],
    warnings=["sage is weak on this model."],
)
MADE = Made(
    model="embedded",
    segments=(
        Segment(asked="sage:0.5", applied=APPLIED),
        Segment(from_token=7),
    ),
    sampling=Sampling(seed=16, temperature=0.2),
    finish_reason="stop",
    prompt_tokens=12,
    tokens=30,
    caps_engaged=2,
    timings=Timings(queued_s=0.1, first_token_s=0.4, total_s=2.5),
)


@pytest.fixture
def store(database: Database) -> ConversationStore:
    return ConversationStore(database)


def test_identifiers_sort_by_time_and_say_what_they_name() -> None:
    made = [new_id("job") for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert check_id(made[0], "job") == made[0]
    for wrong in ("", "job_", "../etc/passwd", made[0].lower(), made[0].replace("job", "run"), made[0] + "\n"):
        with pytest.raises(UsageError, match="no identifier"):
            check_id(wrong, "job")


def test_an_answer_comes_back_as_it_was_stored(store: ConversationStore) -> None:
    conversation = store.create(title="Dogs", model="embedded")
    question = store.add_message(conversation.id, "user", "Comfort Alice.\n\u2028 🐕 '; DROP TABLE messages")
    answer = store.add_message(conversation.id, "assistant", "There, there.", parent_id=question.id, made=MADE)
    assert store.tree(conversation.id) == [question, answer]
    assert store.path(conversation.id) == [question, answer]
    assert answer.made == MADE
    assert store.get(conversation.id).leaf_id == answer.id


def test_answering_again_and_editing_begin_other_branches(store: ConversationStore) -> None:
    it = store.create().id
    system = store.add_message(it, "system", "You are brief.")
    question = store.add_message(it, "user", "Why?", parent_id=system.id)
    first = store.add_message(it, "assistant", "Because.", parent_id=question.id)
    second = store.add_message(it, "assistant", "Why not?", parent_id=question.id)
    assert store.path(it) == [system, question, second]
    assert store.path(it, first.id) == [system, question, first]
    edited = store.add_message(it, "user", "Why not?", parent_id=system.id)
    other = store.add_message(it, "system", "You are long-winded.")
    assert store.path(it, edited.id) == [system, edited]
    assert store.path(it) == [other]
    store.change(it, ConversationEdit(leaf_id=first.id))
    assert store.path(it) == [system, question, first]
    store.change(it, ConversationEdit(leaf_id=None))
    assert store.path(it) == []


def test_deleting_a_branch_takes_what_is_below_it_and_nothing_beside_it(store: ConversationStore) -> None:
    it = store.create().id
    root = store.add_message(it, "user", "a")
    kept = store.add_message(it, "assistant", "b", parent_id=root.id)
    gone = store.add_message(it, "assistant", "c", parent_id=root.id)
    store.add_message(it, "user", "d", parent_id=gone.id)
    assert store.delete_branch(gone.id).leaf_id == root.id
    assert store.tree(it) == [root, kept]
    store.change(it, ConversationEdit(leaf_id=kept.id))
    assert store.delete_branch(root.id).leaf_id is None
    assert store.tree(it) == []


def test_a_long_conversation_is_deleted_at_once(store: ConversationStore, database: Database) -> None:
    it, parent = store.create().id, None
    with database.write() as connection:
        for _ in range(1500):
            node = new_id("msg")
            connection.execute(
                "INSERT INTO messages VALUES (?, ?, ?, 'user', 'x', 'complete', NULL, 0)", (node, it, parent)
            )
            parent = node
    tree = store.tree(it)
    store.change(it, ConversationEdit(leaf_id=parent))
    assert store.path(it) == tree
    store.delete_branch(tree[1].id)
    assert store.tree(it) == tree[:1]
    store.delete(it)
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone()[0] == 0


def test_an_answer_that_was_being_written_is_interrupted_and_keeps_its_text(store: ConversationStore) -> None:
    it = store.create().id
    question = store.add_message(it, "user", "Tell me.")
    answer = store.add_message(it, "assistant", "", parent_id=question.id, status="writing")
    store.update_writing(answer.id, "Once upon", made=MADE)
    assert store.interrupt_writing() == 1
    left = store.path(it)[-1]
    assert (left.content, left.status, left.made) == ("Once upon", "interrupted", MADE)
    with pytest.raises(ConflictError, match="interrupted"):
        store.update_writing(answer.id, "a time")
    assert store.interrupt_writing() == 0


def test_a_finished_message_never_changes(store: ConversationStore) -> None:
    it = store.create().id
    answer = store.add_message(it, "assistant", "", status="writing")
    done = store.update_writing(answer.id, "Done.", status="complete", made=MADE)
    assert store.tree(it) == [done]
    with pytest.raises(ConflictError):
        store.update_writing(answer.id, "Undone.")


def test_a_change_of_another_version_is_refused(store: ConversationStore) -> None:
    first = store.create(title="a")
    second = store.change(first.id, ConversationEdit(title="b"), expected=first.version)
    assert (second.title, second.version) == ("b", first.version + 1)
    for change in (
        lambda: store.change(first.id, ConversationEdit(title="c"), expected=first.version),
        lambda: store.add_message(first.id, "user", "hi", expected=first.version),
        lambda: store.change(first.id, ConversationEdit(leaf_id=None), expected=first.version),
        lambda: store.delete(first.id, expected=first.version),
    ):
        with pytest.raises(ConflictError, match=f"version {second.version}"):
            change()
    assert store.get(first.id) == second
    store.delete(first.id, expected=second.version)


def test_messages_belong_to_their_conversation(store: ConversationStore) -> None:
    one, other = store.create().id, store.create().id
    message = store.add_message(one, "user", "hi")
    for wrong in (
        lambda: store.add_message(other, "assistant", "hello", parent_id=message.id),
        lambda: store.change(other, ConversationEdit(leaf_id=message.id)),
        lambda: store.path(other, message.id),
    ):
        with pytest.raises(UsageError, match="another conversation"):
            wrong()


def test_what_does_not_exist_is_not_found(store: ConversationStore, database: Database) -> None:
    missing = new_id("conv")
    for call in (
        lambda: store.get(missing),
        lambda: store.tree(missing),
        lambda: store.delete(missing),
        lambda: store.add_message(missing, "user", "hi"),
        lambda: store.delete_branch(new_id("msg")),
        lambda: RunStore(database).get(new_id("run")),
    ):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(UsageError):
        store.get("1 OR 1=1")


def test_pages_give_everything_once_in_both_orders(store: ConversationStore) -> None:
    made = [store.create(title=str(i)) for i in range(7)]
    for order, expected in (("asc", made), ("desc", made[::-1])):
        seen, after = [], None
        while True:
            page = store.page(PageQuery(limit=3, after=after, order=order))
            assert [page.first_id, page.last_id] == [page.data[0].id, page.data[-1].id]
            seen += page.data
            if not page.has_more:
                break
            after = page.last_id
        assert [one.id for one in seen] == [one.id for one in expected]
        assert len(page.data) == 1


def test_a_page_goes_on_after_an_item_that_was_deleted(store: ConversationStore) -> None:
    made = [store.create() for _ in range(4)]
    page = store.page(PageQuery(limit=2, order="asc"))
    store.delete(made[1].id)
    assert [one.id for one in store.page(PageQuery(after=page.last_id, order="asc")).data] == [
        one.id for one in made[2:]
    ]


def test_an_empty_list_is_a_page_without_ends(store: ConversationStore) -> None:
    page = store.page()
    assert (page.data, page.first_id, page.last_id, page.has_more) == ([], None, None, False)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 101}, {"order": "up"}, {"afterwards": "x"}])
def test_a_page_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PageQuery.model_validate(wrong)


def test_a_cursor_of_another_list_is_refused(store: ConversationStore) -> None:
    with pytest.raises(UsageError, match="no identifier"):
        store.page(PageQuery(after=new_id("job")))


def test_presets_are_kept_by_name(database: Database) -> None:
    presets = PresetStore(database)
    warm = presets.create("warm", SteeringRequest.model_validate({"personas": {"sage": 0.6}}), description="Kind.")
    presets.create("cold", SteeringRequest())
    assert presets.get("warm") == warm
    assert [one.name for one in presets.page().data] == ["cold", "warm"]
    changed = presets.change("warm", steering=SteeringRequest(scale=0.5), expected=1)
    assert (changed.steering, changed.description, changed.version) == (SteeringRequest(scale=0.5), "Kind.", 2)
    assert presets.get("warm") == changed
    with pytest.raises(ConflictError, match="version 2"):
        presets.change("warm", description="", expected=1)
    with pytest.raises(ConflictError, match="exists already"):
        presets.create("warm", SteeringRequest())
    presets.delete("warm", expected=2)
    with pytest.raises(NotFoundError, match="warm"):
        presets.get("warm")


def test_an_unknown_preset_names_the_nearest_and_a_path_is_no_name(database: Database) -> None:
    presets = PresetStore(database)
    presets.create("warm-sage", SteeringRequest())
    with pytest.raises(NotFoundError) as missing:
        presets.get("warm-sgae")
    assert "warm-sage" in missing.value.hint
    with pytest.raises(UsageError):
        presets.create("../warm", SteeringRequest())


def test_runs_are_found_by_kind_and_name_and_measured_again_are_replaced(database: Database) -> None:
    runs = RunStore(database)
    old = runs.record("sweep", "sage", model="m", folder="sweep-sage-1", data="sweep.json", report="report.html")
    layers = runs.record("layers", "sage", model="m", folder="layers-sage-1")
    runs.record("sweep", "pirate", model="m", folder="sweep-pirate-1")
    new = runs.record("sweep", "sage", model="m", folder="sweep-sage-1", data="sweep.json")
    assert runs.page(kind="sweep", name="sage").data == [new]
    assert [one.name for one in runs.page(kind="sweep").data] == ["sage", "pirate"]
    assert runs.page(name="sage", model="other").data == []
    assert runs.get(layers.id) == layers
    with pytest.raises(NotFoundError):
        runs.get(old.id)
