"""What the bodies of all requests share."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, model_validator


class WholeTexts(BaseModel):
    """A body whose texts are whole characters.

    A lone surrogate, which JSON can escape, would break a tokenizer in the middle of everybody's batch, and no
    database or file could hold it.
    """

    @model_validator(mode="before")
    @classmethod
    def _has_whole_characters(cls, data: object) -> object:
        try:
            json.dumps(data, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a character, a lone surrogate") from None
        return data


class ClosedBody(WholeTexts):
    """A body in which nothing unknown is accepted."""

    model_config = ConfigDict(extra="forbid")
