"""What steering comes to: presets, scale, caps, traces, and the account of it without an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from tests.backends.tiny import LAYERS
from tests.cli.conftest import make_vector
from tests.server.api import MODEL, Api, make_state, running

from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.backends.tokens import Trace
from persona_steering.calibration.caps import Cap
from persona_steering.evaluation.sweep import Sweep
from persona_steering.scoring.effects import Measurement
from persona_steering.server.door.security import Door
from persona_steering.server.state import ServerState
from persona_steering.vectors import Interval
from persona_steering.vectors.algebra import cosine

ASK = [{"role": "user", "content": "hello"}]
THRESHOLDS = {"5": dict.fromkeys(range(LAYERS), -1.0), "25": dict.fromkeys(range(LAYERS), 1.0)}


def with_assistant_axis(state: ServerState) -> ServerState:
    """The state of `make_state`, and an axis with two measured percentiles."""
    serving = state.slot.serving
    serving.manager.store.save(make_vector(serving.manager.model, "assistant", kind="axis", thresholds=THRESHOLDS))
    return state


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(with_assistant_axis(make_state(tmp_path_factory.mktemp("steering"))), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(autouse=True)
def _without_presets(api: Api) -> Iterator[None]:
    yield
    for preset in api.state.presets.page().data:
        api.state.presets.delete(preset.name)


def swept(low: float, high: float) -> Sweep:
    """A sweep without points, coherent between the two."""
    mean = Interval(mean=0, low=0, high=0)
    prompted = Measurement(score=None, gain=mean, coherence=mean)
    return Sweep(
        points=(),
        prompted=prompted,
        coherent=(low, high),
        collapse_below=None,
        collapse_above=None,
        controls=1,
        questions=1,
    )


def post(api: Api, path: str, body: object) -> httpx2.Response:
    with api.client() as http:
        return http.post(path, json=body)


def chat(api: Api, *, model: str = MODEL, **more: Any) -> Any:
    reply = post(api, "/v1/chat/completions", {"model": model, "messages": ASK, "seed": 5, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


def validated(api: Api, steering: object) -> Any:
    reply = post(api, "/api/v1/steering/validate", {"steering": steering})
    assert reply.status_code == 200, reply.text
    return reply.json()


def refusal(api: Api, steering: object) -> tuple[int, str, str]:
    reply = post(api, "/api/v1/steering/validate", {"steering": steering})
    error = reply.json()["error"]
    return reply.status_code, error["code"], error["message"]


def keep(api: Api, name: str, steering: object) -> httpx2.Response:
    return post(api, "/api/v1/presets", {"name": name, "steering": steering})


WARM = {"personas": {"sage": 0.5, "pirate": 0.2}, "safety": False, "scale": 0.5}


def test_a_preset_steers_by_name_and_as_a_model_of_its_own(api: Api) -> None:
    assert keep(api, "warm", WARM).status_code == 201
    direct = chat(api, steering=WARM)
    named = chat(api, steering={"preset": "warm"})
    model = chat(api, model=f"{MODEL}:preset/warm")
    assert direct["steering"]["hash"] == named["steering"]["hash"] == model["steering"]["hash"]
    assert (named["steering"]["preset"], model["steering"]["preset"]) == ("warm", "warm")
    assert direct["choices"][0]["message"] == named["choices"][0]["message"] == model["choices"][0]["message"]


def test_what_a_request_says_itself_has_the_last_word_on_each_name(api: Api) -> None:
    keep(api, "warm", WARM)
    echo = chat(api, steering={"preset": "warm", "traits": {"calm": 0.4}, "personas": {"pirate": -0.3}})["steering"]
    assert {one["name"]: one["coefficient"] for one in echo["applied"]} == {"sage": 0.25, "pirate": -0.3, "calm": 0.4}
    assert (echo["safety"], echo["short"]) == (False, "sage:0.25,pirate:-0.3,calm:0.4")
    safe = chat(api, model=f"{MODEL}:preset/warm", steering={"safety": True, "personas": {"pirate": 0}})["steering"]
    assert ([one["name"] for one in safe["applied"]], safe["safety"]) == (["sage"], True)


def test_scale_multiplies_every_strength_those_of_a_preset_too(api: Api) -> None:
    keep(api, "warm", WARM)
    found = validated(api, {"preset": "warm", "traits": {"calm": 1}, "scale": -2})
    assert found["short"] == "sage:-0.5,pirate:-0.2,calm:-2"
    assert refusal(api, {"personas": {"sage": 1.5}, "scale": 2})[:2] == (400, "invalid_steering")
    assert validated(api, {"personas": {"sage": 1.5}, "scale": 0})["steering"] is None


def test_presets_are_listed_read_changed_and_deleted_by_version(api: Api) -> None:
    made = keep(api, "warm", "sage:0.5,calm:-0.3")
    assert (made.headers["etag"], made.headers["location"]) == ('"1"', "/api/v1/presets/warm")
    keep(api, "cold", {"safety": True})
    with api.client() as http:
        assert [one["name"] for one in http.get("/api/v1/presets").json()["data"]] == ["cold", "warm"]
        models = [one["id"] for one in http.get("/v1/models").json()["data"]]
        assert models[-2:] == [f"{MODEL}:preset/cold", f"{MODEL}:preset/warm"]
        assert http.get(f"/v1/models/{MODEL}:preset/warm").json()["steering"]["kind"] == "preset"
        assert http.get("/api/v1/presets/warm").json()["steering"]["vectors"][1]["coefficient"] == -0.3
        old = {"if-match": '"7"'}
        assert http.patch("/api/v1/presets/warm", json={"description": "Kind."}, headers=old).status_code == 412
        changed = http.patch("/api/v1/presets/warm", json={"description": "Kind."}, headers={"if-match": '"1"'})
        assert (changed.headers["etag"], changed.json()["description"]) == ('"2"', "Kind.")
        assert http.delete("/api/v1/presets/warm", headers=old).status_code == 412
        assert http.delete("/api/v1/presets/warm").status_code == 204
        assert http.get("/api/v1/presets/warm").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"name": "warm", "steering": "sage:1"}, 409, "exists already"),
        ({"name": "../x", "steering": "sage:1"}, 400, "not a valid name"),
        ({"name": "x", "steering": {"preset": "warm"}}, 400, "does not build on another"),
        ({"name": "x", "steering": {"personas": {"sage": 9}}}, 400, "less than or equal to 2"),
        ({"name": "x", "steering": {"persona": {}}}, 400, "Did you mean 'personas'"),
        ({"name": "x", "steering": "sage:much"}, 400, "not a strength"),
        ({"name": "x"}, 400, "field required"),
        ({"name": "x", "steering": {}, "more": 1}, 400, "unknown field 'more' in the body"),
    ],
)
def test_a_preset_that_cannot_be_kept_is_refused(body: dict[str, Any], status: int, word: str, api: Api) -> None:
    keep(api, "warm", "sage:0.5")
    reply = post(api, "/api/v1/presets", body)
    assert (reply.status_code, word in reply.json()["error"]["message"]) == (status, True), reply.text


def test_an_unknown_preset_is_not_found_and_never_the_base(api: Api) -> None:
    keep(api, "warm-sage", "sage:0.5")
    status, code, message = refusal(api, {"preset": "warm-sgae"})
    assert (status, code) == (404, "preset_not_found") and "warm-sage" in message
    reply = post(api, "/v1/chat/completions", {"model": f"{MODEL}:preset/x", "messages": ASK})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_caps_are_bounds_at_a_number_or_a_measured_percentile_beside_the_floor_of_safety(api: Api) -> None:
    caps = [
        {"axis": "assistant", "floor": "p15", "layers": [1, 2]},
        {"axis": "sage", "ceiling": 0.25, "layers": [0]},
    ]
    echo = chat(api, steering={"traits": {"calm": 0.4}, "caps": caps})["steering"]
    assert [(cap["axis"], cap["op"], cap["thresholds"]) for cap in echo["caps"]] == [
        ("safety", "floor", {"3": -0.5}),
        ("assistant", "floor", {"1": 0.0, "2": 0.0}),
        ("sage", "ceiling", {"0": 0.25}),
    ]
    recipe = api.serving._engine.steering(
        {"calm": 0.4}, caps=[Cap("assistant", "floor", "p15", (1, 2)), Cap("sage", "ceiling", 0.25, (0,))]
    ).recipe
    assert echo["hash"] == recipe.hash


def test_caps_alone_steer_and_are_counted(api: Api) -> None:
    caps = [{"axis": "assistant", "floor": 1000.0, "layers": [2]}]
    answer = chat(api, steering={"caps": caps}, max_tokens=4)
    assert (answer["steering"]["applied"], answer["steering"]["safety"]) == ([], False)
    assert answer["steering"]["caps_engaged"] == 4  # from the last prompt token on, at one layer
    assert answer["choices"][0]["message"] != chat(api, max_tokens=4)["choices"][0]["message"]


@pytest.mark.parametrize(
    ("steering", "status", "code", "word"),
    [
        ({"caps": [{"axis": "asistant", "floor": 1}]}, 404, "axis_not_found", "Did you mean 'assistant'"),
        ({"caps": [{"axis": "assistant"}]}, 400, "invalid_steering", "either a floor or a ceiling"),
        ({"caps": [{"axis": "assistant", "floor": 1, "ceiling": 2}]}, 400, "invalid_steering", "either"),
        ({"caps": [{"axis": "assistant", "floor": "25"}]}, 400, "invalid_steering", "p25"),
        ({"caps": [{"axis": "assistant", "floor": "p99"}]}, 400, "invalid_steering", "from p5 to p25"),
        ({"caps": [{"axis": "sage", "floor": "p5"}]}, 400, "invalid_steering", "no thresholds"),
        ({"caps": [{"axis": "assistant", "flor": 1}]}, 400, "invalid_steering", "Did you mean 'floor'"),
        ({"caps": [{"axis": "assistant", "floor": 1, "layers": [LAYERS]}]}, 400, "layer_out_of_range", "from 0 to"),
        ({"caps": [{"axis": "assistant", "floor": 1}] * 2}, 400, "duplicate_vector", "2 times"),
        (
            {"caps": [{"axis": "assistant", "floor": 2}, {"axis": "assistant", "ceiling": 1}]},
            400,
            "invalid_steering",
            "above its ceiling",
        ),
        ({"trace": {"axes": []}}, 400, "invalid_steering", "at least 1"),
        ({"trace": {"axes": ["a", "b", "c", "d", "e"]}}, 400, "invalid_steering", "at most 4"),
        ({"trace": {"axes": ["sage", "sage"]}}, 400, "invalid_steering", "twice"),
        ({"trace": {"axes": ["../sage"]}}, 400, "invalid_steering", "not a valid name"),
        ({"trace": {"axes": ["sagee"]}}, 404, "axis_not_found", "Did you mean 'sage'"),
        ({"trace": {"axis": ["sage"]}}, 400, "invalid_steering", "Did you mean 'axes'"),
        ({"personas": {"nobody": 1}}, 404, "persona_not_found", "nobody"),
    ],
)
def test_caps_and_traces_that_cannot_be_honoured_are_refused_by_name(
    steering: object, status: int, code: str, word: str, api: Api
) -> None:
    found = refusal(api, steering)
    assert found[:2] == (status, code), found
    assert word in found[2]


def test_a_trace_reads_every_token_before_and_after_the_recipe(api: Api) -> None:
    steering = {"personas": {"sage": 0.8}, "trace": {"axes": ["sage", "assistant"]}}
    answer = chat(api, steering=steering)
    layers = {one["axis"]: one["layer"] for one in answer["traces"]}
    assert layers == {"sage": 2, "assistant": 3}  # the last calibrated layer, and the last of the capping band
    trace = answer["choices"][0]["trace"]
    assert [entry["i"] for entry in trace] == list(range(8))
    assert "".join(entry["t"] for entry in trace) == answer["choices"][0]["message"]["content"]
    assert trace[-1]["p"] == {}  # cut off by length: the last token was never read again
    serving = api.serving
    recipe = serving.steering({"sage": 0.8}, safety=True, layers={}).recipe
    traces = tuple(Trace(name, serving.find_axis(name), layer) for name, layer in layers.items())
    sampling = Sampling.configured(serving.config.generation, seed=5)
    asked = Request(conversation("hello"), recipe, sampling, trace=traces)
    expected = serving._engine.model.backend.generate([asked])[0].readings
    for name in layers:
        found = np.array([entry["p"][name] for entry in trace[:-1]])
        np.testing.assert_allclose(found, expected[name][:-1], atol=1e-4)
        assert np.isnan(expected[name][-1]).all()


def test_a_streamed_trace_is_the_trace_of_the_whole_answer(api: Api) -> None:
    asked: dict[str, Any] = {"steering": {"personas": {"sage": 0.8}, "trace": {"axes": ["sage"]}}, "seed": 5}
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="any", max_retries=0) as client:
        chunks: Any = list(
            client.chat.completions.create(model=MODEL, messages=ASK, stream=True, extra_body=asked)  # type: ignore[call-overload]
        )
    told = [entry for chunk in chunks for choice in chunk.choices for entry in getattr(choice, "trace", None) or ()]
    whole = chat(api, **asked)
    assert json.dumps(told, sort_keys=True) == json.dumps(whole["choices"][0]["trace"], sort_keys=True)
    assert chunks[0].traces == whole["traces"]
    assert chat(api)["choices"][0]["trace"] is None


def test_validation_tells_overlaps_as_the_cosine_of_what_is_added(api: Api) -> None:
    found = validated(api, "sage:0.5,pirate:0.4")
    recipe = api.serving.steering({"sage": 0.5, "pirate": 0.4}, safety=None, layers={}).recipe
    a, b = (item.vector for item in recipe.interventions[:2])
    (overlap,) = found["overlaps"]
    expected = np.mean([cosine(a.direction(layer), b.direction(layer)) for layer in (1, 2)])
    assert (overlap["a"], overlap["b"], overlap["cosine"]) == ("sage", "pirate", pytest.approx(expected))
    assert found["steering"]["hash"] == recipe.hash and found["short"] == "sage:0.5,pirate:0.4"


def test_validation_tells_which_strengths_were_measured(api: Api) -> None:
    def strengths(steering: object) -> dict[str, Any]:
        return {one["name"]: one["range"] for one in validated(api, steering)["strengths"]}

    elsewhere = {"vectors": [{"name": "sage", "coefficient": 0.5, "layers": [0]}], "personas": {"raw": 0.1}}
    assert strengths("sage:0.5,calm:0.1") == {"sage": [0.0, 1.0], "calm": [0.0, 1.0]}
    assert strengths(elsewhere) == {"sage": None, "raw": None}
    folder = api.serving.config.runs_dir / "sweep-sage-1"
    folder.mkdir(parents=True)
    recipe = api.serving.steering({"sage": 1.0}, safety=None, layers={}).recipe
    (folder / "plan.json").write_text(json.dumps({"recipe": recipe.hash}))
    (folder / "sweep.json").write_text(swept(-0.5, 1.25).model_dump_json())
    assert strengths("sage:0.5") == {"sage": [-0.5, 1.25]}
    assert strengths({"personas": {"sage": 0.5}, "safety": False}) == {"sage": [0.0, 1.0]}  # another recipe


def test_nothing_to_do_is_said_and_not_refused(api: Api) -> None:
    assert validated(api, {}) == {
        "steering": None, "short": "", "warnings": [], "traces": [], "overlaps": [], "strengths": [],
    }  # fmt: skip
