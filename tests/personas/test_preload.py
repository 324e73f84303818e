"""The preload list: per model, written at once, never half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from persona_steering.errors import ConfigError, NotFoundError
from persona_steering.personas.preload import PreloadList
from persona_steering.vectors import ModelIdentity

ONE = ModelIdentity(id="embedded", fingerprint="1" * 16, num_layers=4, hidden_size=8)
TWO = ModelIdentity(id="hf:o/two", fingerprint="2" * 16, num_layers=4, hidden_size=8)


def test_each_model_has_names_of_its_own(tmp_path: Path) -> None:
    assert PreloadList(tmp_path).names(ONE) == ()
    assert PreloadList(tmp_path).add(ONE, ["sage", "pirate"]) == ("pirate", "sage")
    assert PreloadList(tmp_path).add(ONE, ["sage", "calm"]) == ("calm",)
    assert PreloadList(tmp_path).names(ONE) == ("calm", "pirate", "sage")
    assert PreloadList(tmp_path).names(TWO) == ()
    renamed = ONE.model_copy(update={"id": "hf:o/one"})
    assert PreloadList(tmp_path).names(renamed) == ("calm", "pirate", "sage")


def test_names_are_taken_off_all_or_none(tmp_path: Path) -> None:
    loaded = PreloadList(tmp_path)
    loaded.add(ONE, ["sage", "pirate"])
    with pytest.raises(NotFoundError, match=r"'sagee'.*'sage'"):
        loaded.remove(ONE, ["pirate", "sagee"])
    assert loaded.names(ONE) == ("pirate", "sage")
    assert loaded.remove(ONE, ["sage"]) == ("sage",)
    loaded.discard(ONE, ["pirate", "never"])
    assert loaded.names(ONE) == ()
    assert json.loads(loaded.path.read_text()) == {"version": 1, "models": {}}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"version": 2}', b'{"models": {"a": 3}}'])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    loaded = PreloadList(tmp_path)
    loaded.path.write_bytes(content)
    with pytest.raises(ConfigError, match="Delete it"):
        loaded.add(ONE, ["sage"])
    assert loaded.path.read_bytes() == content
