import type { MessageNode } from "../api/types";
import { path } from "../lib/tree";
import type { Subject } from "../state/inspect.svelte";

/** A message as a text that can be read: with all before it, and what steered it. */
export function subjectOf(message: MessageNode, all: ReadonlyMap<string, MessageNode>): Subject {
  const segments = message.made?.segments ?? [];
  const before = path(all, message.parent_id).map(({ role, content }) => ({ role, content }));
  return {
    id: message.id,
    messages: [...before, { role: message.role, content: message.content }],
    steering: segments.at(-1)?.asked ?? null,
    changed: segments.length > 1,
  };
}
