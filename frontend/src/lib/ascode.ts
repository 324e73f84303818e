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

export type Language = "openai" | "curl" | "command" | "python";

/** A question under a recipe, as code. */
export function codeOf(
  language: Language,
  steering: SteeringRequest | null,
  given: { origin: string; safe: boolean },
): string {
  const blend = shortOf(steering);
  switch (language) {
    case "openai":
      return [
        "from openai import OpenAI",
        "",
        `client = OpenAI(base_url="${given.origin}/v1", api_key="any")`,
        "answer = client.chat.completions.create(",
        '    model="persona-steer",',
        '    messages=[{"role": "user", "content": "How was your day?"}],',
        ...(steering ? [`    extra_body={"steering": ${pythonOf(steering)}},`] : []),
        ")",
        "print(answer.choices[0].message.content)",
      ].join("\n");
    case "curl": {
      const messages = [{ role: "user", content: "How was your day?" }];
      const body = JSON.stringify({ model: "persona-steer", messages, ...(steering && { steering }) });
      return `curl ${given.origin}/v1/chat/completions -H 'Content-Type: application/json' \\\n  -d ${quoted(body)}`;
    }
    case "command":
      return [
        "persona-steer generate 'How was your day?'",
        ...(blend ? [`--blend ${quoted(blend)}`] : []),
        ...(given.safe ? [] : ["--no-safety"]),
      ].join(" ");
    case "python":
      return [
        "from persona_steering import ModelWrapper, PersonaManager, SteeringEngine, get_config",
        "",
        "config = get_config()",
        "engine = SteeringEngine(ModelWrapper(config), PersonaManager(config), config)",
        `blend = ${pythonOf(weightsOf(steering))}`,
        `print(engine.generate_with_composite("How was your day?", blend, safety=${given.safe ? "True" : "False"}))`,
      ].join("\n");
  }
}

/** Names and strengths, with the overall strength multiplied in. */
export function weightsOf(steering: SteeringRequest | null): Record<string, number> {
  const all = {
    ...steering?.personas,
    ...steering?.traits,
    ...Object.fromEntries((steering?.vectors ?? []).map((one) => [one.name, one.coefficient])),
  };
  const scaled = Object.entries(all).map(([name, weight]) => [
    name,
    Number((weight * (steering?.scale ?? 1)).toFixed(4)),
  ]);
  return Object.fromEntries(scaled) as Record<string, number>;
}

function shortOf(steering: SteeringRequest | null): string {
  return Object.entries(weightsOf(steering))
    .map(([name, weight]) => `${name}:${weight}`)
    .join(",");
}

/** A value of JSON as Python writes it. */
export function pythonOf(value: unknown): string {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonOf).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value as object)
      .map(([key, one]) => `${JSON.stringify(key)}: ${pythonOf(one)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** A word of a POSIX shell, whatever is in it. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
