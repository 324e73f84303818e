"""Nine kinds of clients at once: no answer is wrong, and nothing is left behind.

The default run takes some seconds; PERSONA_STEER_SOAK=600 (`make soak`) takes so many.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import psutil
from tests.server.api import MODEL, make_workspace
from tests.server.soak_clients import CLIENTS, SEEDS, STEERINGS, TOKENS, Known, Tally, soak

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.engine.steering import SteeringEngine
from persona_steering.interventions import parse_blend
from persona_steering.server.limits import LIMITS

SECONDS = float(os.environ.get("PERSONA_STEER_SOAK", "8"))
WARM_UP = max(3.0, min(60.0, SECONDS / 4))
GROWTH = 64 * 2**20  # bytes that the server may have more after the soak than after the warm-up


def answers_alone(workspace: Path) -> list[Known]:
    """Each steering and seed, answered by the engine without a server."""
    config, backend, manager = make_workspace(workspace)
    engine = SteeringEngine(ModelWrapper(config, backend=backend), manager, config)
    known = []
    for steering in STEERINGS:
        blend, layers, safety = _parts(steering)
        recipe = engine.steering(blend, layers=layers, safety=safety).recipe
        for seed in SEEDS:
            sampling = Sampling.configured(config.generation, seed=seed, max_new_tokens=TOKENS)
            request = Request((Message("user", "hello"),), recipe=recipe, sampling=sampling)
            text = backend.generate([request])[0].text
            known.append(Known(steering, seed, text, recipe.hash if recipe else None, recipe.to_list()))
    backend.close()
    return known


def _parts(steering: object) -> tuple[dict[str, float], dict[str, list[int]], bool]:
    """A request's steering as the engine takes it."""
    if not isinstance(steering, dict):
        return parse_blend(str(steering)) if steering else {}, {}, True
    vectors = steering.get("vectors", [])
    blend = {**steering.get("personas", {}), **steering.get("traits", {})}
    blend |= {one["name"]: one["coefficient"] for one in vectors}
    return blend, {one["name"]: one["layers"] for one in vectors}, steering.get("safety", True)


@contextmanager
def server(workspace: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and its process. It has to stop by itself, without an error."""
    script = Path(__file__).with_name("soaked_server.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, str(script), str(workspace)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield process.stdout.readline().strip(), psutil.Process(process.pid)
        finally:
            process.stdin.close()
    assert process.returncode == 0


def wait_until_idle(url: str) -> None:
    """Until nothing is written and no job runs. Fails after half a minute."""
    for _ in range(300):
        queue = httpx2.get(f"{url}/api/v1/system").json()
        if not (queue["queue"]["writing"] or queue["queue"]["waiting"] or queue["jobs"]["running"]):
            return
        time.sleep(0.1)
    raise AssertionError(f"something is left: {queue}")


def every_place_can_be_taken(url: str) -> None:
    """All readers' places of the feed are free."""
    with ExitStack() as stack:
        client = stack.enter_context(httpx2.Client(base_url=url, timeout=30))
        for _ in range(LIMITS.feeds):
            reply = stack.enter_context(client.stream("GET", "/api/v1/events"))
            assert reply.status_code == 200


def test_no_answer_is_wrong_and_nothing_is_left_behind(tmp_path: Path) -> None:
    known = answers_alone(tmp_path)
    assert len({one.text for one in known}) > len(known) // 2  # else a mix-up of answers would not show
    with server(tmp_path) as (url, process):
        tally = Tally(url, MODEL, known)
        soak(tally, WARM_UP)
        wait_until_idle(url)
        before = process.memory_info().rss, process.num_threads(), process.num_fds()
        soak(tally, SECONDS)
        wait_until_idle(url)
        after = process.memory_info().rss, process.num_threads(), process.num_fds()
        every_place_can_be_taken(url)
    assert not tally.failures, "\n".join(tally.failures)
    assert set(tally.done) == set(CLIENTS), tally.done
    assert after[0] - before[0] < GROWTH, f"{before[0]} bytes grew to {after[0]} in {SECONDS} s"
    assert after[1] <= before[1] + 4 and after[2] <= before[2] + 8, f"{before} became {after}"
