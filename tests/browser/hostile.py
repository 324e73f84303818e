"""Texts that try to become part of the page, and where they try it."""

from __future__ import annotations

import time
from typing import Any

from tests.browser.workspace import HOSTILE

# A page that takes any of these for more than text sets `window.owned`, or has an element that it should not have.
ANSWER = f"""Here is **bold** text and `code`.

{HOSTILE}

[link](javascript:window.owned=4) [data](data:text/html,<script>window.owned=5</script>) <javascript:window.owned=6>
![picture](https://elsewhere.example/pixel.png) <img src="https://elsewhere.example/pixel.png">
<iframe srcdoc="<script>parent.owned=7</script>"></iframe> <svg onload="window.owned=8"></svg>
<form action="https://elsewhere.example"><input name=q><button>send</button></form>
<div style="position:fixed;inset:0;background:red">over everything</div>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.owned=9&gt;">

```html
<script>window.owned = 10</script>
```

<script>window.owned = 11"""
FORBIDDEN = (
    "img, iframe, svg[onload], script, style, form, object, embed, math, [onerror], [onload], [onclick], [style]"
)


def conversation(title: str, *texts: str) -> dict[str, Any]:
    """A file of a conversation with these texts, a question and an answer in turn."""
    now = time.time()
    messages = [
        {
            "id": f"m{i}",
            "parent_id": f"m{i - 1}" if i else None,
            "role": "assistant" if i % 2 else "user",
            "content": text,
            "status": "complete",
            "made": None,
            "created_at": now,
        }
        for i, text in enumerate(texts)
    ]
    return {
        "format": "persona-steering conversation tree",
        "version": 1,
        "title": title,
        "leaf_id": messages[-1]["id"],
        "created_at": now,
        "messages": messages,
    }
