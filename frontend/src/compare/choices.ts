/** What a lane is answered with, as somebody chooses it. */

import type { Preset, SteeringRequest } from "../api/types";
import { signed } from "../lib/format";

export type Choice =
  | { kind: "base" }
  | { kind: "recipe" }
  | { kind: "kept"; steering: SteeringRequest | null; short: string } // the recipe as it was then
  | { kind: "preset"; name: string }
  | { kind: "prompt"; system: string };

/** The value of a choice in a `select`. */
export function valueOf(choice: Choice): string {
  return choice.kind === "preset" ? `preset:${choice.name}` : choice.kind;
}

export function labelOf(choice: Choice, now: string): string {
  switch (choice.kind) {
    case "base":
      return "Base model";
    case "recipe":
      return now || "Recipe (empty)";
    case "kept":
      return choice.short || "Recipe (empty)";
    case "preset":
      return `Preset ${choice.name}`;
    case "prompt":
      return "System prompt only";
  }
}

/** As a request says it; null for the base model. */
export function steeringOf(choice: Choice, recipe: SteeringRequest | null): SteeringRequest | null {
  switch (choice.kind) {
    case "recipe":
      return recipe;
    case "kept":
      return choice.steering;
    case "preset":
      return { preset: choice.name } as SteeringRequest;
    default:
      return null;
  }
}

/** Names and strengths of a recipe: "sage +0.6 · formal −0.3". */
export function shortOf(parts: readonly { name: string; strength: number }[], scale: number): string {
  return parts.map((part) => `${part.name} ${signed(part.strength * scale)}`).join(" · ");
}

/** The short form of the server in the same words. */
export function worded(short: string): string {
  return short.replaceAll(",", " · ").replaceAll(":", " ");
}

/** Why a lane cannot be asked; empty when it can. */
export function missing(choice: Choice, presets: readonly Preset[]): string {
  if (choice.kind === "prompt" && !choice.system.trim()) return "Write the system prompt first.";
  if (choice.kind === "preset" && !presets.some((one) => one.name === choice.name))
    return `There is no preset ${choice.name} any more.`;
  return "";
}
