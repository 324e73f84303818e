/** Another answer that begins as one did, and goes on from one of its tokens with another in its place. */

import { ask } from "../api/http";
import type { Conversation, ConversationFile, ProjectedText, TextCompletion } from "../api/types";
import { conversations } from "../state/conversations.svelte";
import { inspect, withoutTrace, type Chosen } from "../state/inspect.svelte";
import { router } from "../state/router.svelte";
import { sampling } from "../state/sampling.svelte";
import { server } from "../state/server.svelte";
import { thread } from "../state/thread.svelte";
import { toasts } from "../state/toasts.svelte";

type FileMessage = ConversationFile["messages"][number];

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
  const more = ends ? "" : await goneOn(written.join("") + text, steering);
  const file = await fileOf(chosen, begun + more);
  const copy = await ask<Conversation>("POST", "/api/v1/conversations/import", { body: file });
  await conversations.refresh();
  router.go("chat", [copy.id]);
  toasts.note("The other answer is a branch of a copy of this conversation.");
}

/** How the model goes on with a text that its own template has made. */
async function goneOn(prompt: string, steering: unknown): Promise<string> {
  const body = { model: server.system?.model?.id ?? "", prompt, steering, ...sampling.asked };
  const { choices } = await ask<TextCompletion>("POST", "/v1/completions", { body });
  return choices[0]?.text ?? "";
}

async function fileOf({ subject }: Chosen, content: string): Promise<ConversationFile> {
  const source = thread.messages.get(subject.id);
  const answer: Pick<FileMessage, "id" | "role" | "content" | "created_at"> = {
    id: "fork",
    role: "assistant",
    content,
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
  return chainOf([...subject.messages.slice(0, -1), { role: "assistant", content }]);
}

/** Messages that are kept nowhere as a conversation of their own. */
export function chainOf(
  messages: readonly { role: FileMessage["role"]; content: string }[],
): ConversationFile {
  const now = Date.now() / 1000;
  const chain = messages.map(({ role, content }, at) => ({
    id: `${at}`,
    parent_id: at ? `${at - 1}` : null,
    role,
    content,
    created_at: now,
  }));
  return {
    format: "persona-steering conversation tree",
    title: messages.find((one) => one.role === "user")?.content.slice(0, 60) ?? "",
    model: server.system?.model?.id ?? "",
    leaf_id: chain.at(-1)?.id ?? null,
    created_at: now,
    messages: chain as FileMessage[],
  } as ConversationFile;
}
