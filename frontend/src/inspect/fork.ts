/** Another answer that begins as one did, and goes on from one of its tokens with another in its place. */

import { ask } from "../api/http";
import type { Conversation, ConversationFile, ProjectedText, TextCompletion } from "../api/types";
import { conversations } from "../state/conversations.svelte";
import { inspect, withoutTrace, type Asked, type Chosen } from "../state/inspect.svelte";
import { router } from "../state/router.svelte";
import { sampling } from "../state/sampling.svelte";
import { server } from "../state/server.svelte";
import { thread } from "../state/thread.svelte";
import { toasts } from "../state/toasts.svelte";
import { chainOf, sampledWith, type FileMessage, type Made } from "./files";

/** Writes the answer on and opens it, as a branch of a copy of its conversation: it did not come about in the first. */
export async function forkAt(chosen: Chosen, text: string): Promise<void> {
  const { subject, at } = chosen;
  const steering = withoutTrace(subject.steering);
  const place = inspect.found(subject.id)?.tokens[at]?.place;
  if (place === undefined || place === null || inspect.axis === null) return;
  const { tokens } = await ask<ProjectedText>("POST", "/api/v1/project", {
    body: { messages: subject.messages, axes: [inspect.axis] },
  });
  const ends = tokens.some((one) => one.message === null && one.text === text && text.trim() !== "");
  const written = tokens.slice(0, place).map((one) => one.text);
  const own = tokens.slice(0, place).filter((one) => one.message === subject.messages.length - 1);
  const begun = own.map((one) => one.text).join("") + (ends ? "" : text);
  const more = ends ? null : await goneOn(written.join("") + text, steering);
  const content = begun + (more?.choices[0]?.text ?? "");
  const file = await fileOf(chosen, content, more && madeOf(chosen, more, steering));
  const copy = await ask<Conversation>("POST", "/api/v1/conversations/import", { body: file });
  await conversations.refresh();
  router.go("chat", [copy.id]);
  toasts.note("The other answer is a branch of a copy of this conversation.");
}

/** How the model goes on with a text that its own template has made. */
async function goneOn(prompt: string, steering: Asked): Promise<TextCompletion> {
  const body = { model: server.system?.model?.id ?? "", prompt, steering, ...sampling.asked };
  return ask<TextCompletion>("POST", "/v1/completions", { body });
}

/** How the other answer came about: its beginning as it was, the rest from the other token on. */
function madeOf({ subject, at }: Chosen, more: TextCompletion, asked: Asked): Made {
  const source = thread.messages.get(subject.id)?.made;
  const before = (source?.segments ?? []).filter((one) => one.from_token < at);
  return {
    model: server.system?.model?.id ?? "",
    segments: [...before, { from_token: at, asked, applied: more.steering ?? null }],
    sampling: sampledWith(more.seed),
    finish_reason: more.choices[0]?.finish_reason === "length" ? "length" : "stop",
    prompt_tokens: source?.prompt_tokens ?? 0,
    tokens: at + 1 + more.usage.completion_tokens,
    caps_engaged: more.steering?.caps_engaged ?? 0,
  } as Made;
}

async function fileOf({ subject }: Chosen, content: string, made: Made | null): Promise<ConversationFile> {
  const source = thread.messages.get(subject.id);
  const answer: Pick<FileMessage, "id" | "role" | "content" | "created_at" | "made"> = {
    id: "fork",
    role: "assistant",
    content,
    made,
    created_at: Date.now() / 1000,
  };
  if (source) {
    const file = await ask<ConversationFile>("GET", `/api/v1/conversations/${source.conversation_id}/export`);
    return {
      ...file,
      title: `${file.title} (fork)`.slice(-200),
      leaf_id: answer.id,
      messages: [...file.messages, { ...answer, parent_id: source.parent_id } as FileMessage],
    };
  }
  return chainOf([...subject.messages.slice(0, -1), { role: "assistant", content }], made);
}
