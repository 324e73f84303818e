import { describe, expect, it } from "vitest";

import type { MessageNode } from "../api/types";
import { readBy, storedRound, subjectOf, type Lane, type Round } from "./rounds";

function node(
  id: string,
  parent: string | null,
  role: MessageNode["role"],
  made: object | null = null,
): MessageNode {
  const rest = { conversation_id: "conv", content: `text of ${id}`, status: "complete", created_at: 0 };
  return { id, parent_id: parent, role, made, ...rest } as MessageNode;
}

function made(seed: number, short: string | null): object {
  const applied = short === null ? null : { short, warnings: [] };
  return {
    segments: [{ from_token: 0, asked: short, applied }],
    sampling: { seed },
    tokens: 3,
    caps_engaged: 0,
  };
}

const SYSTEM = node("m1", null, "system");
const QUESTION = node("m2", "m1", "user");
const BASE = node("m3", "m2", "assistant", made(7, null));
const STEERED = node("m4", "m2", "assistant", made(7, "sage:0.6"));

function all(...nodes: MessageNode[]): Map<string, MessageNode> {
  return new Map(nodes.map((one) => [one.id, one]));
}

describe("a conversation whose last question has two answers", () => {
  const round = storedRound([SYSTEM, QUESTION, BASE], all(SYSTEM, QUESTION, BASE, STEERED));

  it("shows them again, with what the server says that made them", () => {
    expect(round?.question).toBe("text of m2");
    expect(round?.lanes.map((lane) => lane.label)).toEqual(["Base model", "sage 0.6"]);
    expect(round?.seed).toBe(7);
    expect(round?.before).toEqual([{ role: "system", content: "text of m1" }]);
  });

  it("has no common seed where they were asked apart", () => {
    const other = { ...STEERED, made: made(8, "sage:0.6") } as MessageNode;
    expect(storedRound([QUESTION, BASE], all(QUESTION, BASE, other))?.seed).toBeNull();
  });

  it("shows none where there is one answer, or none", () => {
    expect(storedRound([QUESTION, BASE], all(QUESTION, BASE))).toBeNull();
    expect(storedRound([QUESTION], all(QUESTION))).toBeNull();
    expect(storedRound([], all())).toBeNull();
  });

  it("is read with all before it", () => {
    const subject = subjectOf(round!, 1);
    expect(subject?.id).toBe("m4");
    expect(subject?.steering).toBe("sage:0.6");
    expect(subject?.messages.map((one) => one.content)).toEqual(["text of m1", "text of m2", "text of m4"]);
    expect(subjectOf(round!, 2)).toBeNull();
  });
});

it("a lane's own system prompt stands in the place of the conversation's", () => {
  const round = { before: [{ role: "system", content: "old" }], question: "Why?" } as Round;
  expect(readBy(round, { system: "new" } as Lane).map((one) => one.content)).toEqual(["new", "Why?"]);
  expect(readBy(round, { system: null } as Lane).map((one) => one.content)).toEqual(["old", "Why?"]);
});
