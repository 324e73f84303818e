/** A request as code that can be run: what the page does, for a terminal or a program. */

import type { MessageNode, SteeringRequest } from "../api/types";

type Made = NonNullable<MessageNode["made"]>;

/** The steering an answer began with, as it was asked for. */
export function askedOf(made: Made): SteeringRequest | string | null {
  return made.segments[0]?.asked ?? null;
}

/** `persona-steer generate`, which gives the same answer to a single question. */
export function commandOf(question: string, made: Made): string {
  const applied = made.segments[0]?.applied;
  const parts = ["persona-steer generate", quoted(question)];
  if (applied?.short) parts.push(`--blend ${quoted(applied.short)}`);
  if (applied && !applied.safety) parts.push("--no-safety");
  parts.push(`--temperature ${made.sampling.temperature}`, `--max-tokens ${made.sampling.max_new_tokens}`);
  parts.push(`--seed ${made.sampling.seed}`);
  return parts.join(" ");
}

/** The same as a request to the server at `origin`. */
export function curlOf(question: string, made: Made, origin: string): string {
  const body = {
    model: "persona-steer",
    messages: [{ role: "user", content: question }],
    steering: askedOf(made),
    temperature: made.sampling.temperature,
    top_p: made.sampling.top_p,
    max_tokens: made.sampling.max_new_tokens,
    seed: made.sampling.seed,
  };
  return `curl ${origin}/v1/chat/completions -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;
}

/** A word of a POSIX shell, whatever is in it. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
