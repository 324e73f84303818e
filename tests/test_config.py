from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from persona_steering.config import Config, config_keys, find_workspace, get_config
from persona_steering.errors import ConfigError, DependencyError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user without settings, in a folder that is no workspace."""
    import os

    for variable in [v for v in os.environ if v.startswith("PERSONA_STEER_")]:
        monkeypatch.delenv(variable)
    home = tmp_path / "home"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("PERSONA_STEER_HOME", str(home))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return home


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Makes the current folder a workspace with this config.yaml."""

    def make(text: str) -> Path:
        write(tmp_path / "work" / "config.yaml", text)
        (tmp_path / "work" / "vectors").mkdir()
        (tmp_path / "work" / "deep" / "down").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "work" / "deep" / "down")
        return tmp_path / "work"

    return make


def test_the_built_in_defaults_hold_where_nothing_is_said(home):
    config = get_config()
    assert config.model_dump() == Config().model_dump()
    assert config.model.name == "embedded"
    assert config.steering.default_strength == 1.0
    assert config.generation.seed is None
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8642)
    assert {config.origin(key) for key in config_keys()} == {"built-in"}
    assert config.vectors_dir == home / "data" / "vectors"
    assert config.cache_dir == home / "cache"
    assert not home.exists()


def test_each_source_gives_way_to_the_one_above_it_key_by_key(home, workspace, monkeypatch):
    user = write(
        home / "config" / "config.yaml",
        "generation: {temperature: 0.1, top_p: 0.1, max_new_tokens: 1, seed: 1}\n",
    )
    folder = workspace("generation: {temperature: 0.2, top_p: 0.2, max_new_tokens: 2}\n")
    monkeypatch.setenv("PERSONA_STEER_GENERATION__TEMPERATURE", "0.3")
    monkeypatch.setenv("PERSONA_STEER_GENERATION__TOP_P", "0.3")
    config = get_config(overrides={"generation.temperature": 0.4})
    assert config.generation.model_dump() == {
        "temperature": 0.4,
        "top_p": 0.3,
        "max_new_tokens": 2,
        "seed": 1,
    }
    assert config.origin("generation.temperature") == "override"
    assert config.origin("generation.top_p") == "environment variable PERSONA_STEER_GENERATION__TOP_P"
    assert config.origin("generation.max_new_tokens") == str(folder / "config.yaml")
    assert config.origin("generation.seed") == str(user)
    assert config.origin("model.name") == "built-in"


def test_the_workspace_is_the_nearest_folder_upward_and_holds_the_data(workspace):
    folder = workspace("")
    config = get_config()
    assert config.workspace == folder
    assert config.vectors_dir == folder / "vectors"
    assert config.runs_dir == folder / "runs"
    assert config.datasets_dir == folder / "datasets"


def test_somebody_elses_config_yaml_is_no_workspace_unless_marked(tmp_path):
    file = write(tmp_path / "elsewhere" / "config.yaml", "their: settings: broken")
    assert find_workspace() is None
    get_config()
    file.write_text("persona_steering: 1\nmodel: {name: 'hf:a/b'}\n")
    assert find_workspace() == file.parent
    assert get_config().model.name == "hf:a/b"


def test_a_file_of_a_later_version_is_refused(workspace):
    workspace("persona_steering: 2\n")
    with pytest.raises(ConfigError, match="version 2"):
        get_config()


def test_outside_a_workspace_the_users_data_folder_is_one(home):
    write(home / "data" / "config.yaml", "server: {port: 9000}")
    assert get_config().server.port == 9000


def test_a_path_names_the_file_or_the_workspace(tmp_path, workspace):
    workspace("server: {port: 1}")
    file = write(tmp_path / "mine" / "other.yaml", "server: {port: 2}")
    assert get_config(file).server.port == 2
    assert get_config(file).workspace == file.parent
    assert get_config(file.parent).server.port == 8642
    with pytest.raises(ConfigError, match="no configuration file"):
        get_config(tmp_path / "gone.yaml")


def test_relative_paths_start_at_the_file_that_names_them(workspace, monkeypatch):
    folder = workspace("paths: {vectors: ../shared, runs: null, datasets: /absolute, cache: ~/cache}\n")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PERSONA_STEER_PATHS__RUNS", "here")
    config = get_config()
    assert config.vectors_dir.resolve() == folder.parent / "shared"
    assert config.datasets_dir == Path("/absolute")
    assert config.runs_dir == Path.cwd() / "here"
    assert config.cache_dir == Path("/home/me/cache")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("generation.seed", "7", 7),
        ("generation.seed", "null", None),
        ("model.quantization", "4bit", "4bit"),
        ("model.revision", "", None),
        ("model.trust_remote_code", "true", True),
        ("model.device", "cuda:1", "cuda:1"),
        ("extraction.batch_size", "8", 8),
        ("extraction.batch_size", "auto", "auto"),
        ("steering.steering_layers", "auto", "auto"),
        ("steering.steering_layers", "12", (12,)),
        ("steering.steering_layers", "8-10, 3", (3, 8, 9, 10)),
        ("steering.steering_layers", "[9, 8]", (8, 9)),
        ("steering.default_strength", "-0.5", -0.5),
    ],
)
def test_text_from_the_environment_becomes_the_type_of_its_key(monkeypatch, key, text, value):
    monkeypatch.setenv("PERSONA_STEER_" + key.replace(".", "__").upper(), text)
    section, _, name = key.partition(".")
    assert getattr(getattr(get_config(), section), name) == value
    assert get_config(overrides={key: text}).origin(key) == "override"


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=8))
def test_layers_read_the_same_as_list_and_as_text(layers):
    expected = tuple(sorted(set(layers)))
    text = ",".join(map(str, layers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONA_STEER_HOME", "/nonexistent")
        for value in (layers, text, f"[{text}]"):
            config = get_config(overrides={"steering.capping_layers": value})
            assert config.steering.capping_layers == expected


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("model.dtype", "float64", "'bfloat16'"),
        ("model.device", "gpu", '"cuda:N"'),
        ("model.name", "", "at least 1"),
        ("steering.default_strength", "strong", "number"),
        ("steering.default_strength", 2.5, "less than or equal to 2"),
        ("steering.default_strength", float("nan"), "finite"),
        ("steering.steering_layers", "some", "'auto'"),
        ("steering.steering_layers", [], "at least 1"),
        ("steering.steering_layers", [-1], "greater than or equal to 0"),
        ("steering.steering_layers", "3,99999", "less than 10000"),
        ("steering.steering_layers", "10-8", "'auto'"),
        ("extraction.batch_size", 0, "greater than or equal to 1"),
        ("generation.top_p", 0, "greater than 0"),
        ("server.port", 70000, "65535"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_its_origin_and_what_is_allowed(key, value, allowed):
    with pytest.raises(ConfigError) as caught:
        get_config(overrides={key: value})
    text = str(caught.value)
    assert text.startswith(f"{key} is {value!r} in override")
    assert allowed in text


def test_a_wrong_value_in_a_file_names_the_file(workspace):
    folder = workspace("server:\n  port: many\n")
    with pytest.raises(ConfigError, match=r"server\.port is 'many'") as caught:
        get_config()
    assert str(folder / "config.yaml") in str(caught.value)


def test_a_value_that_something_above_replaces_may_be_wrong(workspace):
    workspace("server: {port: many}")
    assert get_config(overrides={"server.port": 1}).server.port == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {dtyp: auto}", "unknown setting 'model.dtyp'.*'model.dtype'"),
        ("modle: {name: x}", "unknown section 'modle'.*'model'"),
        ("zzz: 1", "unknown section 'zzz'.*sections are model"),
        ("model: embedded", "'model'.*is a section.*name, device"),
        ("- model", "not a list of sections"),
        ("model:\n  name: [unclosed\nserver: {}", "line [34]"),
        ("model:\n\tname: x", "line 2"),
        ("a: 2020-99-99", "not a YAML"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_what_is_wrong(workspace, text, message):
    folder = workspace(text)
    with pytest.raises(ConfigError, match=message) as caught:
        get_config()
    assert str(folder / "config.yaml") in str(caught.value)


def test_bytes_that_are_no_text_are_refused(workspace):
    folder = workspace("")
    (folder / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        get_config()


def test_empty_sections_and_files_mean_the_defaults(workspace):
    workspace("model:\nserver: {}\n")
    assert get_config().model_dump() == Config().model_dump()


def test_an_unknown_override_or_variable_is_refused_with_the_nearest(monkeypatch):
    with pytest.raises(ConfigError, match=r"'model\.name'"):
        get_config(overrides={"model.nam": "x"})
    monkeypatch.setenv("PERSONA_STEER_MODEL__NAM", "x")
    with pytest.raises(ConfigError, match=r"model\.nam.*PERSONA_STEER_MODEL__NAM.*model\.name"):
        get_config()


def test_a_single_underscore_in_a_variable_is_not_ignored(monkeypatch):
    monkeypatch.setenv("PERSONA_STEER_MODEL_NAME", "x")
    with pytest.raises(ConfigError, match="PERSONA_STEER_MODEL__NAME"):
        get_config()


def test_other_variables_of_the_prefix_belong_to_others(monkeypatch):
    monkeypatch.setenv("PERSONA_STEER_DEBUG", "1")
    assert get_config().model_dump() == Config().model_dump()


def test_the_settings_are_closed_and_frozen():
    with pytest.raises(ValidationError):
        get_config().model.name = "x"
    with pytest.raises(ConfigError, match=r"'server\.port'"):
        get_config().origin("server.prt")


def test_every_key_has_a_description():
    for key in config_keys():
        section, _, name = key.partition(".")
        field = type(getattr(Config(), section)).model_fields[name]
        assert field.description, key


def test_without_home_the_platforms_folders_are_used(monkeypatch, tmp_path):
    pytest.importorskip("platformdirs")
    monkeypatch.delenv("PERSONA_STEER_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write(tmp_path / "config" / "persona-steering" / "config.yaml", "server: {port: 9001}")
    config = get_config()
    assert config.server.port == 9001
    assert config.vectors_dir == tmp_path / "data" / "persona-steering" / "vectors"
    assert config.cache_dir == tmp_path / "cache" / "persona-steering"


def test_without_platformdirs_the_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("PERSONA_STEER_HOME")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(DependencyError, match="PERSONA_STEER_HOME"):
        get_config()
