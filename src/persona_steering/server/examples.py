"""One request body for each operation whose model has none of its own, as the published document shows it.

A test holds each to its schema.
"""

from __future__ import annotations

from pydantic import JsonValue

_ASK: JsonValue = [{"role": "user", "content": "How was your day?"}]
_STEERING: JsonValue = {"personas": {"sage": 0.6}, "traits": {"formal": -0.3}}
_SAMPLING: JsonValue = {"temperature": 0.7, "max_tokens": 200, "seed": 16}

# by the name of the operation
EXAMPLES: dict[str, JsonValue] = {
    "createChatCompletion": {"model": "persona-steer", "messages": _ASK, "steering": _STEERING, "seed": 16},
    "createCompletion": {"model": "persona-steer:sage@0.4", "prompt": "Once upon a time", "max_tokens": 64},
    "controlChatCompletion": {"id": "chatcmpl_01J9ZK3V6Q8R2T4W6Y8A0C2E4G", "action": "steer", "steering": "sage:0.2"},
    "validateSteering": {"steering": "sage:0.6,formal:-0.3"},
    "createPreset": {"name": "warm-sage", "description": "calm, and not stiff", "steering": _STEERING},
    "updatePreset": {"description": "calm, and not stiff"},
    "createSweep": {"name": "sage", "strengths": [-1.0, 0.0, 0.5, 1.0], "questions": 20},
    "createLayerScan": {"name": "sage", "questions": 8},
    "createCard": {"name": "sage", "questions": 20, "controls": 20},
    "createSimilarity": {"names": ["sage", "wizard"]},
    "createConversation": {"title": "An evening with the sage"},
    "importConversation": {
        "format": "persona-steering conversation tree",
        "title": "An evening with the sage",
        "created_at": 1795219200.0,
        "messages": [],
    },
    "changeConversation": {"title": "An evening with the sage"},
    "addMessage": {
        "content": "How was your day?",
        "system": "Answer briefly.",
        "steering": _STEERING,
        "sampling": _SAMPLING,
        "stream": True,
    },
    "answerMessage": {"steering": "sage:0.8", "sampling": _SAMPLING},
    "compareSteering": {
        "messages": _ASK,
        "lanes": [{"label": "as it is"}, {"label": "sage", "steering": "sage:0.6"}],
        "sampling": _SAMPLING,
    },
    "projectText": {"text": "The tide brings what it will.", "axes": ["sage"]},
    "listAlternatives": {"messages": _ASK, "answer_prefix": "It was", "top": 5},
    "loadModel": {"name": "hf:Qwen/Qwen2.5-7B-Instruct", "quantization": "4bit"},
}
