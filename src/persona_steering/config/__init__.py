"""Typed settings: closed sections, one YAML file, and for every value where it came from.

A value is taken from the first of these that has it:

    1. overrides            get_config(overrides={"model.name": "hf:..."}), and the flags of the command line
    2. the environment      PERSONA_STEER_MODEL__NAME=hf:...  (section and key joined by a double underscore)
    3. the workspace        its config.yaml
    4. the user             config.yaml in the user's configuration folder
    5. the built-in default

The workspace is the nearest folder upward from the current one with a `config.yaml` that either lies beside a
`vectors/` folder or has the top-level line `persona_steering: 1`; otherwise the user's data folder. Relative
paths in a file start at that file's folder. `PERSONA_STEER_HOME` replaces the user's folders by `data/`,
`config/`, `cache/` and `state/` beneath it.
"""

from __future__ import annotations

from persona_steering.config.places import (
    FILE_NAME,
    HOME_VARIABLE,
    find_workspace,
    user_cache_dir,
    user_config_file,
    user_data_dir,
    user_state_dir,
)
from persona_steering.config.schema import (
    Config,
    EndpointConfig,
    ExtractionConfig,
    GenerationConfig,
    JudgeConfig,
    ModelConfig,
    PathsConfig,
    ServerConfig,
    SteeringConfig,
    config_keys,
)
from persona_steering.config.sources import get_config

__all__ = [
    "FILE_NAME",
    "HOME_VARIABLE",
    "Config",
    "EndpointConfig",
    "ExtractionConfig",
    "GenerationConfig",
    "JudgeConfig",
    "ModelConfig",
    "PathsConfig",
    "ServerConfig",
    "SteeringConfig",
    "config_keys",
    "find_workspace",
    "get_config",
    "user_cache_dir",
    "user_config_file",
    "user_data_dir",
    "user_state_dir",
]
