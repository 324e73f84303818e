"""The judge behind a server: what it asks, what it makes of the answers, and what it does when the server fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.backends.fake_server import FakeServer, Reply, Script, says, serving
from tests.backends.tiny import make_tokenizer, open_tiny, save_tiny
from tests.scoring.judges.model_server import DIGITS, WHOLE, of_model, prompt_of, shares, tells

from persona_steering.backends.openai import OpenAIBackend
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError, ServerError, ServerRefusalError
from persona_steering.personas import load_library_trait
from persona_steering.scoring.judges import JudgeItem, Judgement, LocalJudge, expectation
from persona_steering.scoring.judges.remote import FAILURES_IN_A_ROW, PROBE, RemoteJudge, RemoteSettings

ITEM = JudgeItem("{question}/{answer}", "Is it far?", "Very.")
ITEMS = [JudgeItem("{question}/{answer}", "Is it far?", str(i)) for i in range(12)]
Open = Callable[..., tuple[RemoteJudge, FakeServer]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """A judge on a server with a script, which is asked once and for all whether it tells whole numbers."""
    with ExitStack() as stack:

        def make(script: Script, *, probe: Reply = WHOLE, timeout: float = 5.0, **settings: Any) -> Any:
            def probed(body: dict[str, Any], number: int) -> Reply:
                return probe if prompt_of(body) == PROBE else script(body, number)

            server = stack.enter_context(serving(probed))
            backend = OpenAIBackend(
                server.url, "gpt", timeout=timeout, max_retries=1, sleep=lambda seconds: None, api_key="sk-secret"
            )
            return stack.enter_context(RemoteJudge(backend, RemoteSettings(**settings))), server

        yield make


def always(reply: Reply) -> Script:
    return lambda body, number: reply


# What it asks, and what it makes of the answer


def test_one_token_is_asked_for_with_the_20_likeliest(opened: Open) -> None:
    judge, server = opened(always(tells(shares(n80=0.6, n70=0.3, The=0.1))))
    (found,) = judge.judge([ITEM])
    assert (found.outcome, found.method) == ("score", "expectation")
    assert found.score == pytest.approx((80 * 0.6 + 70 * 0.3) / 0.9)
    assert found.mass == pytest.approx(0.9) and dict(found.top).keys() == {"80", "70", "The"}
    assert judge.id == found.judge == f"openai:{server.url}#gpt" and judge.remarks == ()
    sent = server.bodies[-1]
    assert sent["messages"] == [{"role": "user", "content": "Is it far?/Very."}]
    assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (1, 0, 0)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 20)


def test_a_server_that_tells_a_models_probabilities_judges_as_that_model_does_alone(
    opened: Open, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer()
    with open_tiny(save_tiny("llama", tmp_path / "llama", tokenizer=tokenizer)) as backend:
        assert_judges_as_alone(opened, backend, ITEMS[:3], min_mass=0.01)


@pytest.mark.embedded
def test_so_does_a_server_of_the_embedded_model_with_a_real_rubric(
    opened: Open, embedded_backend: TransformersBackend
) -> None:
    rubric = load_library_trait("evil").eval_prompt
    item = JudgeItem(rubric, "What do you do with an injured bird?", "I crush it, and I laugh while it cries.")
    assert_judges_as_alone(opened, embedded_backend, [item], min_mass=0.01)


def assert_judges_as_alone(
    opened: Open, backend: TransformersBackend, items: Sequence[JudgeItem], *, min_mass: float
) -> None:
    judge, _ = opened(of_model(backend), min_mass=min_mass)
    remote = judge.judge(items)
    local = LocalJudge(backend, min_mass=min_mass).judge(items)
    for there, here in zip(remote, local, strict=True):
        # the 20 likeliest, as published, out of what the local judge sees whole
        seen = [pair for pair in here.top if pair[0] in dict(there.top)]
        assert there.score is not None
        assert there.score == pytest.approx(expectation(seen, min_mass=1e-9).score, rel=1e-4)


def test_many_are_judged_at_once_and_keep_their_order(opened: Open) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return Reply(tells(shares(**{f"n{prompt_of(body).split('/')[1]}": 0.9})).body, hang=0.02)

    judge, server = opened(script, concurrency=4)
    told: dict[int, Judgement] = {}
    found = judge.judge(ITEMS, on_done=told.__setitem__)
    assert [one.score for one in found] == pytest.approx(range(12))
    assert [told[i] for i in range(12)] == found
    assert 1 < server.most_at_once <= 4


# Without log-probabilities that can be used


@pytest.mark.parametrize(
    ("probe", "remark"),
    [
        (says("85"), "gives no log-probabilities (its answers hold none)"),
        (
            Reply('{"error": {"message": "logprobs is not supported with this model"}}', status=400),
            "gives no log-probabilities (logprobs is not supported with this model)",
        ),
        (DIGITS, "digit by digit"),
        (tells(shares(Sure=0.9)), "does not write 85 when asked to"),
    ],
)
def test_answers_are_sampled_where_one_token_tells_no_number(opened: Open, probe: Reply, remark: str) -> None:
    answers = ("70", "80/100", "I cannot say", "90")
    judge, server = opened(lambda body, number: says(answers[body["seed"]]), probe=probe, samples=4)
    (found,) = judge.judge([ITEM])
    assert (found.outcome, found.method, found.score) == ("score", "samples", pytest.approx(80))
    assert found.mass == pytest.approx(0.75)
    assert remark in judge.remarks[0] and "means of 4 sampled answers" in judge.remarks[0]
    sampled = server.bodies[1:]
    assert sorted(body["seed"] for body in sampled) == [0, 1, 2, 3]
    assert all(body["temperature"] == 1 and "logprobs" not in body for body in sampled)


def test_sampled_refusals_and_nonsense_are_told_apart(opened: Open) -> None:
    for text, outcome in (("REFUSAL", "refusal"), ("hm", "failed")):
        judge, _ = opened(always(says(text)), probe=DIGITS)
        (found,) = judge.judge([ITEM])
        assert (found.outcome, found.score) == (outcome, None)


# When the server fails


@pytest.mark.parametrize(
    "trouble",
    [
        Reply("busy", status=429, headers={"Retry-After": "1"}),
        Reply("ill", status=500),
        Reply(tells(shares(n50=0.9)).body, cut=9),
        Reply(tells(shares(n50=0.9)).body, hang=30),
    ],
    ids=["429", "500", "cut", "timeout"],
)
def test_a_passing_trouble_is_tried_again(opened: Open, trouble: Reply) -> None:
    judge, _ = opened(
        lambda body, number: trouble if number == 1 else tells(shares(n50=0.9)),
        timeout=0.5 if trouble.hang else 5,
        concurrency=1,
    )
    assert [found.score for found in judge.judge(ITEMS[:2])] == pytest.approx([50, 50])


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Reply("ill", status=500), "status 500"),
        (Reply("<html>hello</html>"), "not JSON"),
        (Reply('{"choices": []}'), "no choices"),
        (Reply('{"choices": [{"logprobs": {"content": [{"top": 1}]}}]}'), "a form of its own"),
        (Reply('{"choices": [{"logprobs": null}]}'), "no log-probabilities"),
        (Reply(tells(shares(n50=0.9)).body, cut=9), "broke off its answer"),
        (Reply("too long", status=400), "too long"),
    ],
    ids=["500", "html", "empty", "form", "null", "cut", "400"],
)
def test_a_lasting_trouble_fails_its_own_item_only(opened: Open, trouble: Reply, reason: str) -> None:
    judge, _ = opened(lambda body, number: trouble if prompt_of(body).endswith("/1") else tells(shares(n50=0.9)))
    found = judge.judge(ITEMS[:4])
    assert [one.outcome for one in found] == ["score", "failed", "score", "score"]
    assert reason in found[1].reason and "sk-secret" not in found[1].reason


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_item_would_meet_ends_the_judging_at_once(opened: Open, status: int) -> None:
    judge, server = opened(always(Reply("no", status=status)), concurrency=2)
    with pytest.raises(ServerError, match="the same command judges the rest"):
        judge.judge(ITEMS)
    assert len(server.bodies) <= 4


def test_a_server_that_stays_ill_is_given_up_and_what_was_judged_was_told(opened: Open) -> None:
    judge, _ = opened(
        lambda body, number: tells(shares(n50=0.9)) if number <= 2 else Reply("ill", status=500), concurrency=1
    )
    told: dict[int, Judgement] = {}
    with pytest.raises(ServerError, match=f"failed {FAILURES_IN_A_ROW} times in a row"):
        judge.judge(ITEMS, on_done=told.__setitem__)
    assert [told[i].outcome for i in (0, 1)] == ["score", "score"]


def test_a_wrong_key_is_known_before_anything_is_judged(opened: Open) -> None:
    judge, server = opened(always(WHOLE), probe=Reply("bad key", status=401))
    with pytest.raises(ServerRefusalError, match="401") as caught:
        judge.judge(ITEMS)
    assert len(server.bodies) == 1 and "sk-secret" not in str(caught.value)


def test_no_more_calls_are_made_than_allowed(opened: Open) -> None:
    judge, server = opened(always(tells(shares(n50=0.9))), max_calls=5, concurrency=3)
    found = judge.judge(ITEMS)
    assert len(server.bodies) == judge.calls == 5
    assert [one.outcome for one in found].count("score") == 4  # and one call to find out how the server answers
    assert {one.reason for one in found if one.outcome == "failed"} == {
        "the limit of calls or tokens to the judge is reached"
    }


def test_no_more_calls_are_made_once_the_tokens_are_spent(opened: Open) -> None:
    judge, server = opened(always(tells(shares(n50=0.9))), max_tokens=35, concurrency=1)
    found = judge.judge(ITEMS)
    assert len(server.bodies) == 4  # of 10 tokens each
    assert [one.outcome for one in found] == ["score"] * 3 + ["failed"] * 9


def test_a_stopped_judge_does_not_wait_for_a_server_that_hangs(opened: Open) -> None:
    judge, _ = opened(always(Reply(WHOLE.body, hang=30)), timeout=30)
    with pytest.raises(CancelledError):
        judge.judge(ITEMS, cancelled=lambda: True)
