/** A conversation that somebody pasted: lines that begin with who speaks, or JSON as the API has it. */

import type { PastMessage } from "../api/types";

type Role = PastMessage["role"];

const SPEAKERS: Record<string, Role> = {
  system: "system",
  user: "user",
  human: "user",
  you: "user",
  assistant: "assistant",
  ai: "assistant",
  model: "assistant",
};
const LINE = new RegExp(`^\\s*(${Object.keys(SPEAKERS).join("|")})\\s*:[ \\t]*(.*)$`, "i");

/** Its messages; null where nobody speaks at its beginning, or somebody says nothing. */
export function parseTranscript(text: string): PastMessage[] | null {
  return fromJson(text) ?? fromLines(text);
}

function fromLines(text: string): PastMessage[] | null {
  const found: { role: Role; lines: string[] }[] = [];
  for (const line of text.trim().split(/\r?\n/)) {
    const [, speaker, rest] = LINE.exec(line) ?? [];
    if (speaker) found.push({ role: SPEAKERS[speaker.toLowerCase()]!, lines: [rest ?? ""] });
    else if (found.length) found.at(-1)!.lines.push(line);
    else return null;
  }
  return checked(found.map(({ role, lines }) => ({ role, content: lines.join("\n").trim() })));
}

function fromJson(text: string): PastMessage[] | null {
  try {
    const given: unknown = JSON.parse(text);
    if (!Array.isArray(given)) return null;
    const found = given.map((one: { role?: unknown; content?: unknown } | null) => {
      const { role, content } = one ?? {};
      if (typeof role !== "string" || typeof content !== "string") throw new TypeError("no message");
      return { role: SPEAKERS[role] ?? "user", content };
    });
    return checked(found);
  } catch {
    return null;
  }
}

function checked(found: PastMessage[]): PastMessage[] | null {
  return found.length && found.every(({ content }) => content) ? found : null;
}
