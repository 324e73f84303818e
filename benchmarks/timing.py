"""What the benchmarks share: options, a model that never stops early, sides that take turns, and the report.

A figure is a ratio of two medians from one run. The sides take turns (A B A B ...) after a warm-up of each, so that
a machine that slows down slows both; the spread is that of the ratios of single turns.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from machine import describe_machine

if TYPE_CHECKING:
    from persona_steering.backends.transformers.backend import TransformersBackend

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"

# Shapes without weights: the keyword arguments of a transformers configuration class.
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "small": (
        "LlamaConfig",
        {
            "hidden_size": 64,
            "num_hidden_layers": 12,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 128,
            "vocab_size": 8192,
            "max_position_embeddings": 4096,
        },
    ),
    "llama-7b": (
        "LlamaConfig",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 32000,
            "max_position_embeddings": 4096,
        },
    ),
    "qwen2-7b": (
        "Qwen2Config",
        {
            "hidden_size": 3584,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 18944,
            "vocab_size": 152064,
            "max_position_embeddings": 32768,
        },
    ),
}

_SPECIAL = ("<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of the table. `target` is a bound from below, or from above when `at_most`; None: only reported."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    target: float | None = None
    at_most: bool = False
    unit: str = ""
    details: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


def ratio(name: str, above: Sequence[float], below: Sequence[float], **rest: Any) -> Figure:
    """Median of `above` over median of `below`; turn i of one side belongs to turn i of the other."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    value = statistics.median(above) / statistics.median(below)
    return Figure(name, value, low=min(each), high=max(each), **rest)


def take_turns(sides: Mapping[str, Callable[[], T]], *, repeats: int, warmups: int = 1) -> dict[str, list[T]]:
    """What each side returned in each of its turns; those of the warm-up are thrown away."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for turn in range(-warmups, repeats):
        for name, work in sides.items():
            gc.collect()
            result = work()
            if turn >= 0:
                found[name].append(result)
    return found


def timed(device: Any, work: Callable[[], T]) -> tuple[float, T]:
    """Seconds until the device has finished `work`, and its result."""
    synchronize(device)
    start = time.perf_counter()
    result = work()
    synchronize(device)
    return time.perf_counter() - start, result


def synchronize(device: Any) -> None:
    """Waits for all that the device was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: Any, work: Callable[[], object]) -> int | None:
    """Bytes at the highest point during `work`: on the device, else resident in RAM. None where it is not known."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    # Where the kernel does not let the mark be reset it only rises, which still shows growth.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    work()
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def model_parser(text: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark that runs a model."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, a folder or a hub id")
    parser.add_argument("--random-weights", choices=SHAPES, help="a model of this shape, made on the device, instead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch", type=positive, default=32, help="rows of a batch")
    parser.add_argument("--tokens", type=positive, default=64, help="tokens of an answer, at least 4")
    parser.add_argument("--repeats", type=positive, default=5, help="turns of each side")
    parser.add_argument("--out", type=Path, help="result file (default: results/NAME-DEVICE.json)")
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def open_backend(options: argparse.Namespace) -> TransformersBackend:
    """The model that the options name. It has no stop tokens, so that both sides write the same number of tokens."""
    from persona_steering import get_config
    from persona_steering.backends import load
    from persona_steering.backends.transformers.backend import TransformersBackend

    if options.tokens < 4:
        raise SystemExit("--tokens must be at least 4")
    if options.random_weights:
        loaded = random_model(options.random_weights, options.device, options.dtype)
    else:
        cache = get_config().cache_dir
        backend = load(options.model, device=options.device, dtype=options.dtype, cache=cache)
        if not isinstance(backend, TransformersBackend):
            raise SystemExit(f"{options.model} does not run on transformers")
        loaded = dataclasses.replace(backend.loaded, stop_ids=frozenset())
    return TransformersBackend(loaded, batch_size=options.batch)


def random_model(shape: str, device: str, dtype: str) -> Any:
    """A LoadedModel of one of SHAPES with random weights, made on the device."""
    import torch
    import transformers

    from persona_steering.backends.transformers.layers import check_layers, find_layers
    from persona_steering.backends.transformers.loading import LoadedModel, fingerprint, pick_device, pick_dtype
    from persona_steering.backends.transformers.products import turn_few_rows
    from persona_steering.backends.transformers.prompts import PromptEncoder
    from persona_steering.vectors import ModelIdentity

    place = pick_device(device)
    number = pick_dtype(dtype, place)
    kind, sizes = SHAPES[shape]
    config = getattr(transformers, kind)(**sizes, tie_word_embeddings=False, pad_token_id=0, bos_token_id=None)
    torch.manual_seed(0)
    with torch.device(place):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=number)
    turn_few_rows(model, place, number)
    model.eval()
    model.requires_grad_(False)
    # their logits are 0, so the greedy choice among thousands of random ones is never a special token
    model.lm_head.weight[: len(_SPECIAL)] = 0
    layers = find_layers(model)
    check_layers(model, layers)
    identity = ModelIdentity(
        id=f"random:{shape}",
        fingerprint=fingerprint(model),
        model_type=config.model_type,
        num_layers=len(layers.blocks),
        hidden_size=config.hidden_size,
    )
    return LoadedModel(
        model=model,
        encoder=PromptEncoder(word_tokenizer(config.vocab_size), config.max_position_embeddings),
        layers=layers,
        identity=identity,
        device=place,
        dtype=number,
        quantization=None,
        hidden_size=config.hidden_size,
        context_length=config.max_position_embeddings,
        stop_ids=frozenset(),
        pad_id=0,
        takes_positions=True,
    )


def word_tokenizer(size: int) -> Any:
    """One token per word: those of the shipped texts, then made-up ones, so that every id is a word that reads back."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.Whitespace()
    known = dict.fromkeys(word for text in shipped_texts() for word, _ in splitter.pre_tokenize_str(text))
    words = [*_SPECIAL, *known][:size]
    words += [f"word{i}" for i in range(size - len(words))]
    inner = Tokenizer(models.WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = splitter
    inner.add_special_tokens(list(_SPECIAL))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def shipped_texts() -> list[str]:
    """The questions and system prompts that come with the package."""
    from persona_steering.personas import list_archetypes, load_archetype, load_questions

    prompts = [prompt for name in list_archetypes() for prompt in load_archetype(name).system_prompts]
    return [*(question.question for question in load_questions()), *prompts]


def chats(count: int) -> list[tuple[Any, ...]]:
    """`count` conversations of different lengths: a system prompt and a question each, in turns."""
    from persona_steering.backends.base import conversation
    from persona_steering.personas import list_archetypes, load_archetype, load_questions

    questions = [question.question for question in load_questions()]
    systems = [load_archetype(name).system_prompts[0] for name in list_archetypes()]
    return [conversation(questions[i % len(questions)], systems[i % len(systems)]) for i in range(count)]


def describe(backend: TransformersBackend) -> dict[str, object]:
    """The model's part of a report."""
    import torch

    info = backend.info
    return {
        "model": info.identity.model_dump(mode="json"),
        "device": info.device,
        "dtype": info.dtype,
        "threads": torch.get_num_threads(),
    }


def report(
    name: str,
    figures: Sequence[Figure],
    *,
    device: str,
    options: argparse.Namespace,
    about: Mapping[str, object] | None = None,
) -> None:
    """Prints the table and writes the JSON."""
    machine = describe_machine()
    out = options.out or RESULTS / f"{name}-{device}.json"
    asked = {key: value for key, value in vars(options).items() if key not in ("out", "model", "random_weights")}
    result = {
        "benchmark": name,
        "machine": machine,
        **(about or {}),
        "options": asked,
        "figures": [{**dataclasses.asdict(figure), "met": figure.met} for figure in figures],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{table(figures)}\n\n{machine}")
    if about:
        print(f"{about['model']['id']}, {about['dtype']} on {about['device']}; {asked}")  # type: ignore[index]
    print(f"written to {out}")


def table(figures: Sequence[Figure]) -> str:
    """Name, value, spread, target and verdict of every figure, in columns."""
    rows = [("figure", "value", "spread", "target", "")]
    for figure in figures:
        spread = "" if figure.low is None else f"{figure.low:.3f} - {figure.high:.3f}"
        bound = "report" if figure.target is None else f"{'<=' if figure.at_most else '>='} {figure.target:g}"
        verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
        rows.append((figure.name, f"{figure.value:.3f} {figure.unit}".rstrip(), spread, bound, verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
