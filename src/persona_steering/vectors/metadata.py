"""What stands beside the directions of a vector: its model, its origin, its calibration. Closed and frozen.

Everything here is JSON. A calibration says what strength 1.0 means and carries the evidence for it; a name is
checked here once, so that it can become a file name.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from persona_steering.errors import UsageError
from persona_steering.vectors.evidence import Evidence
from persona_steering.vectors.values import Closed, Interval, Layer

VectorKind = Literal["persona", "trait", "axis", "baseline"]

SCHEMA_VERSION = 1
ASSISTANT_AXIS = "assistant"
ASSISTANT_BASELINE = "assistant-baseline"
SAFETY_AXIS = "safety"
FORKED_FROM = "forked_from"  # key of a copy's settings: the name that it was made under
UNKNOWN_PERCENTILE = "imported"  # key of thresholds whose percentile their file did not say
_PERCENTILE = re.compile(r"\d{1,3}(\.\d+)?")
MAX_TAGS = 16
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def suggest_name(text: str) -> str:
    """The nearest valid name to any text; "unnamed" when nothing of it can be kept."""
    slug = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")
    return slug[:64].rstrip("-_") or "unnamed"


def check_name(name: str) -> str:
    """The name itself when it is valid, so that it can become a file name.

    Raises: UsageError with a name that would do.
    """
    if NAME_PATTERN.fullmatch(name):
        return name
    raise UsageError(
        f"{name!r} is not a valid name.",
        hint="Use 1 to 64 lower-case letters, digits, '-' and '_', starting with a letter or digit, "
        f"for instance {suggest_name(name)!r}.",
    )


def package_version() -> str:
    """The installed version of this package; empty when it runs from a source tree."""
    try:
        return importlib.metadata.version("persona-steering")
    except importlib.metadata.PackageNotFoundError:
        return ""


def known_percentiles(thresholds: Mapping[str, Mapping[int, float]]) -> dict[float, Mapping[int, float]]:
    """The thresholds whose percentile is known, by percentile, ascending."""
    return {
        float(key): thresholds[key] for key in sorted((k for k in thresholds if _PERCENTILE.fullmatch(k)), key=float)
    }


class ModelIdentity(Closed):
    """Which model a vector belongs to. Equal fingerprints mean the same model, whatever the ids say."""

    id: str = Field(min_length=1, description='as the user names it, e.g. "embedded" or "hf:Qwen/Qwen2.5-7B-Instruct"')
    revision: str = Field(default="", description="hub commit, or hash of the file")
    fingerprint: str = Field(min_length=1, description="hash of the configuration and a few weights")
    model_type: str = ""
    num_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)

    @property
    def slug(self) -> str:
        """A folder name: the safe characters of the id, then the first 8 of the fingerprint."""
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", self.id).strip("-.")[:96].rstrip("-.") or "model"
        return f"{safe}-{self.fingerprint_slug}"

    @property
    def fingerprint_slug(self) -> str:
        """The part of the slug that two ids of the same model share."""
        return re.sub(r"[^A-Za-z0-9]", "", self.fingerprint)[:8] or "0"

    def is_same_as(self, other: ModelIdentity) -> bool:
        """Whether a vector made for one can be used on the other: ids and revisions do not count."""
        mine = (self.fingerprint, self.num_layers, self.hidden_size)
        return mine == (other.fingerprint, other.num_layers, other.hidden_size)

    def __str__(self) -> str:
        size = f"{self.num_layers} layers of {self.hidden_size}"
        return f"{self.id!r} ({size}, fingerprint {self.fingerprint[:8]})"


class Calibration(Closed):
    """What strength 1.0 means for a vector on its model, and the evidence for it."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    coefficients: dict[Layer, float] = Field(description="per layer, multiplies the raw direction at strength 1.0")
    relative_dose: float = Field(description="sum over layers of ||c v|| / median ||h||")
    weak: bool = False
    weak_reason: str = ""
    persona_score: Interval | None = Field(description="None: not measurable, see gain")
    gain: Interval | None = Field(default=None, description="gain over the base model, nats per token")
    prompted_gain: Interval | None = None
    coherence: Interval | None = Field(default=None, description="0-100")
    control_score: Interval | None = Field(default=None, description="random directions of equal norm")
    control_gain: Interval | None = None
    num_answers: int = Field(default=0, ge=0)
    num_controls: int = Field(default=0, ge=0)
    num_questions: int = Field(default=0, ge=0)
    safe: bool = Field(default=False, description="measured with the safety component removed")
    settings: dict[str, JsonValue] = Field(default={}, description="search grid, sampling, seeds")

    @model_validator(mode="after")
    def _coefficients_cover_the_layers(self) -> Calibration:
        if set(self.layers) != set(self.coefficients):
            raise ValueError(f"coefficients for layers {sorted(self.coefficients)}, layers {sorted(self.layers)}")
        return self


class VectorMetadata(Closed):
    """Where a vector comes from, and everything needed to use it without asking its author."""

    schema_version: Literal[1] = 1
    name: str
    kind: VectorKind
    description: str = ""
    tags: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS, description="its user's own words, to find it by")
    model: ModelIdentity | None = Field(description="None only for an imported file that does not say")
    site: Literal["resid_post"] = "resid_post"
    sign: str = Field(description="what the positive direction means")
    pooling: str = "response_mean"
    source: str = Field(description='e.g. "archetype:pirate", "prompts:FILE", "import:persona_vectors"')
    system_prompts: tuple[str, ...] = ()
    opposite: str = ""
    counts: dict[str, int] = Field(default={}, description="kept, dropped, baseline, ...")
    judge: str = ""
    seed: int | None = None
    data_hashes: dict[str, str] = Field(default={})
    reference_norms: dict[Layer, float] = Field(
        default={}, description="median ||h|| of the model's own response tokens"
    )
    thresholds: dict[str, dict[Layer, float]] = Field(
        default={}, description='axes: percentile ("1", "25", ...) -> layer -> projection on the unit axis'
    )
    calibration: Calibration | None = None
    safe_calibration: Calibration | None = None
    evidence: Evidence | None = Field(default=None, description="what `persona-steer card` measured")
    transferred_from: ModelIdentity | None = None
    created: str = ""
    package_version: str = ""
    settings: dict[str, JsonValue] = Field(default={})

    @field_validator("name")
    @classmethod
    def _name_is_valid(cls, value: str) -> str:
        return check_name(value)

    @property
    def made_as(self) -> str:
        """The name that its run has: of a copy, that of what it was copied from."""
        name = self.settings.get(FORKED_FROM)
        return name if isinstance(name, str) and NAME_PATTERN.fullmatch(name) else self.name
