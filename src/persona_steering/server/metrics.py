"""Counters for a monitoring system, in the text form that Prometheus reads. Every server counts for itself, from 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from persona_steering.server.model.scheduler import AnswerFacts, Load
from persona_steering.server.model.slot import SlotStatus
from persona_steering.server.stores.job_models import JobStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"  # what people try, paths that no route has and methods of their own, must not make series
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"})
_FIRST = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
_WHOLE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for each series, which nobody asks for


class Metrics:
    """What is counted, and what is looked up when somebody asks.

    load: how busy the model is, None where there is none; jobs: how many there are of each state.
    """

    def __init__(
        self,
        *,
        slot: Callable[[], SlotStatus],
        load: Callable[[], Load | None],
        jobs: Callable[[], Mapping[JobStatus, int]],
        readers: Callable[[], int],
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Now(slot, load, jobs, readers))
        self._requests = self._counter("http_requests", "Requests, by route.", "method", "path", "status")
        self._durations = self._histogram("http_request_seconds", "Until a request was answered.", _WHOLE, "path")
        self._answers = self._counter("answers", "Answers that ended.", "steered", "ending")
        self._tokens = self._counter("tokens", "Tokens written in answers.", "steered")
        self._caps = self._counter("caps_engaged", "Layers and tokens at which a floor or ceiling acted.")
        self._first = self._histogram("first_token_seconds", "From asking to the first token.", _FIRST, "steered")
        self._whole = self._histogram("answer_seconds", "From asking to the end of an answer.", _WHOLE, "steered")

    def on_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered. `path` is the route's, with its names in braces."""
        self._requests.labels(method if method in METHODS else OTHER, path, str(status)).inc()
        self._durations.labels(path).observe(seconds)

    def on_answer(self, facts: AnswerFacts) -> None:
        """An answer ended."""
        steered = "yes" if facts.steered else "no"
        self._answers.labels(steered, facts.ending).inc()
        self._tokens.labels(steered).inc(facts.tokens)
        self._caps.inc(facts.caps_engaged)
        self._whole.labels(steered).observe(facts.seconds)
        if facts.first_seconds is not None:
            self._first.labels(steered).observe(facts.first_seconds)

    def render(self) -> bytes:
        """All of them as text."""
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"persona_steering_{name}", what, labels, registry=self._registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"persona_steering_{name}", what, labels, buckets=buckets, registry=self._registry)


class _Now(Collector):
    """What is the case at the moment."""

    def __init__(
        self,
        slot: Callable[[], SlotStatus],
        load: Callable[[], Load | None],
        jobs: Callable[[], Mapping[JobStatus, int]],
        readers: Callable[[], int],
    ) -> None:
        self._slot, self._load, self._jobs, self._readers = slot, load, jobs, readers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        load = self._load()
        yield _gauge("model_ready", "1 while a model is loaded.", int(self._slot().state == "ready"))
        yield _gauge("answers_writing", "Answers that are being written.", load.writing if load else 0)
        yield _gauge("answers_waiting", "Answers that wait for a place.", load.waiting if load else 0)
        yield _gauge("event_readers", "Clients that listen to events.", self._readers())
        jobs = GaugeMetricFamily("persona_steering_jobs", "Jobs that are kept, by state.", labels=["status"])
        for status, count in sorted(self._jobs().items()):
            jobs.add_metric([status], count)
        yield jobs


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"persona_steering_{name}", what, value=value)
