/** A question with two answers: what each was made with, and how far it has come. */

import type { ApiError } from "../api/errors";
import type { AppliedSteering, Live, MessageNode, PastMessage, SteeringRequest } from "../api/types";
import type { Made } from "../inspect/files";
import { siblings } from "../lib/tree";
import type { Growing } from "../state/growing";
import type { Subject } from "../state/inspect.svelte";
import { worded } from "./choices";

/** One of the two answers. */
export interface Lane extends Growing {
  label: string;
  system: string | null; // its own system prompt
  follows: boolean; // whether it follows the recipe while it is written
  asked: SteeringRequest | null;
  steering: AppliedSteering | null;
  changes: number[]; // tokens from which on another recipe holds
  state: "waiting" | "writing" | "done" | "failed";
  error: ApiError | null;
  ending: string; // how it ended, where it did not by itself
  done: { tokens: number; seconds: number | null; caps: number | null } | null;
  message: string | null; // as it is kept in the conversation; null: it is not
  made: Made | null; // how it came about, for when it is kept later
}

/** What both lanes answer. */
export interface Round {
  conversation: string | null;
  before: PastMessage[];
  question: string;
  lanes: Lane[];
  seed: number | null;
  blind: boolean; // whether labels are hidden until somebody has chosen
  turned: boolean; // whether the second stands left
}

/** The two newest answers to a conversation's last question, if there are two. */
export function storedRound(path: MessageNode[], all: ReadonlyMap<string, MessageNode>): Round | null {
  const last = path.at(-1);
  const question = last?.role === "assistant" && all.get(last.parent_id ?? "");
  if (!last || !question) return null;
  const both = siblings(all, last).slice(-2);
  if (both.length < 2) return null;
  const seeds = both.map((one) => one.made?.sampling.seed ?? null);
  return {
    conversation: last.conversation_id,
    before: path.slice(0, path.indexOf(question)).map(({ role, content }) => ({ role, content })),
    question: question.content,
    lanes: both.map(laneOf),
    seed: seeds[0] === seeds[1] ? seeds[0]! : null,
    blind: false,
    turned: false,
  };
}

/** What a lane's model read: its own system prompt stands in the place of the conversation's. */
export function readBy(round: Round, lane: Lane): PastMessage[] {
  const question: PastMessage = { role: "user", content: round.question };
  if (lane.system === null) return [...round.before, question];
  const before = round.before.filter((one) => one.role !== "system");
  return [{ role: "system", content: lane.system }, ...before, question];
}

/** A lane's answer as a text that can be read. */
export function subjectOf(round: Round, number: number): Subject | null {
  const lane = round.lanes[number];
  if (!lane) return null;
  return {
    id: lane.message ?? `lane-${number}-${round.seed}-${lane.state}`,
    messages: [...readBy(round, lane), { role: "assistant", content: lane.text }],
    steering: lane.asked,
    changed: lane.changes.length > 0,
  };
}

/** A lane that has ended, with the server's own account of it. */
export function ended(lane: Lane, frame: Live["LiveDone"], sampled: Made["sampling"], model: string): Lane {
  const { completion_tokens: tokens, prompt_tokens } = frame.usage;
  const caps = frame.steering?.caps_engaged ?? null;
  return {
    ...lane,
    text: frame.content,
    asked: (frame.segments.at(-1)?.asked ?? null) as SteeringRequest | null,
    steering: frame.steering,
    state: "done",
    ending: endingOf(frame.finish_reason),
    done: { tokens, seconds: frame.timings.total_s ?? null, caps },
    made: {
      ...{ model, segments: frame.segments, sampling: sampled, finish_reason: frame.finish_reason },
      ...{ prompt_tokens, tokens, caps_engaged: caps ?? 0, timings: frame.timings },
    } as Made,
  };
}

function endingOf(reason: string | null): string {
  const endings: Record<string, string> = {
    length: "It ended at the limit of tokens.",
    cancelled: "Stopped.",
    stopped: "Stopped.",
    filtered: "It was filtered.",
    failed: "Not finished.",
    interrupted: "The server stopped in the middle of this.",
    writing: "It is still being written; this is what there was when the page was opened.",
  };
  return endings[reason ?? ""] ?? "";
}

function laneOf({ id, content, made, status }: MessageNode): Lane {
  const first = made?.segments[0];
  const last = made?.segments.at(-1);
  return {
    ...{
      text: content,
      tokens: [],
      state: "done",
      error: null,
      system: null,
      follows: false,
      message: id,
      made: null,
    },
    ending: endingOf(status === "complete" ? (made?.finish_reason ?? null) : status),
    label: worded(first?.applied?.short ?? "") || "Base model",
    asked: (last?.asked ?? null) as SteeringRequest | null,
    steering: last?.applied ?? null,
    changes: made?.segments.slice(1).map((one) => one.from_token) ?? [],
    done: made && {
      tokens: made.tokens,
      seconds: made.timings?.total_s ?? null,
      caps: made.caps_engaged,
    },
  };
}
