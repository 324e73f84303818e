/** Conversations as files that the server takes in. */

import type { ConversationFile, Schemas } from "../api/types";
import { sampling } from "../state/sampling.svelte";
import { server } from "../state/server.svelte";

export type FileMessage = ConversationFile["messages"][number];
export type Made = Schemas["Made-Input"];

/** How tokens were chosen: as it was asked for, and for the rest as the server is configured. */
export function sampledWith(seed: number): Made["sampling"] {
  const usual = server.system!.settings;
  const { temperature, top_p, max_tokens } = sampling.asked;
  return {
    temperature: temperature ?? usual.temperature,
    top_p: top_p ?? usual.top_p,
    max_new_tokens: max_tokens ?? usual.max_new_tokens,
    seed,
    stop: [],
  };
}

/** Messages that are kept nowhere, as a conversation. `made`: how the last came about. */
export function chainOf(
  messages: readonly Pick<FileMessage, "role" | "content">[],
  made: Made | null,
): ConversationFile {
  const now = Date.now() / 1000;
  const chain = messages.map(({ role, content }, at) => ({
    id: `${at}`,
    parent_id: at ? `${at - 1}` : null,
    role,
    content,
    created_at: now,
    made: at === messages.length - 1 ? made : null,
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
