/** A grid of prompts and recipes, and what an export of it holds. */

import type { Schemas, SteeringRequest } from "../api/types";
import type { Table } from "../charts/table";
import type { Curve, CurvePoint } from "../lib/curve";
import { number } from "../lib/format";

export interface Recipe {
  label: string;
  steering: SteeringRequest | string | null; // null: the base model
  /** Names and strengths, as the server writes them. */
  short?: string;
}

export type Cell =
  | { state: "writing" }
  | { state: "stopped" }
  | { state: "failed"; message: string }
  | { state: "done"; answer: Schemas["LaneAnswer"] };

export interface Grid {
  prompts: readonly string[];
  recipes: readonly Recipe[];
  cell: (prompt: number, recipe: number) => Cell | undefined;
  measured: (recipe: Recipe) => CurvePoint | null;
}

const LANES = 4; // that the server answers in one batch; two at least

export function keyOf(prompt: number, recipe: number): string {
  return `${prompt}/${recipe}`;
}

export function promptsOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

/** Places in batches as even as can be, so that none is left alone: 5 are 3 and 2. */
export function groups(count: number): number[][] {
  const batches = Math.ceil(count / LANES);
  const places = Array.from({ length: count }, (_, i) => i);
  return Array.from({ length: batches }, (_, b) =>
    places.slice(Math.round((b * count) / batches), Math.round(((b + 1) * count) / batches)),
  );
}

/** The vector and strength of a recipe that is nothing else, and so is what a sweep measures. */
export function single(recipe: Recipe): { name: string; strength: number } | null {
  if (recipe.steering === null || !isPlain(recipe.steering)) return null;
  const [name, strength, ...rest] = (recipe.short ?? "").split(/[:,]/);
  const value = Number(strength);
  return name && strength && !rest.length && Number.isFinite(value) ? { name, strength: value } : null;
}

function isPlain(steering: SteeringRequest | string): boolean {
  if (typeof steering === "string") return true;
  const { preset, caps, safety, vectors } = steering;
  const asConfigured = safety === null || safety === undefined;
  return !preset && !caps?.length && asConfigured && !vectors?.some((one) => one.layers);
}

/** What a sweep measured at exactly this strength; nothing is read off between its points. */
export function measuredAt(curve: Curve | null, strength: number): CurvePoint | null {
  return curve?.points.find((point) => Math.abs(point.strength - strength) < 1e-6) ?? null;
}

/** What is known of a cell, in words: the answer, or why there is none. */
export function textOf(cell: Cell | undefined): string {
  switch (cell?.state) {
    case "done":
      return cell.answer.content;
    case "failed":
      return `failed: ${cell.message}`;
    case "stopped":
      return "stopped";
    default:
      return "not asked";
  }
}

/** One row for each answer. */
export function answerTable({ prompts, recipes, cell, measured }: Grid): Table {
  return {
    columns: [
      "Prompt",
      "Recipe",
      "State",
      "Answer",
      "Ended by",
      "Tokens",
      "Caps engaged",
      "Coherence in its sweep",
      "Persona score in its sweep",
    ],
    rows: prompts.flatMap((prompt, p) =>
      recipes.map((recipe, r) => {
        const found = cell(p, r);
        const answer = found?.state === "done" ? found.answer : null;
        const known = measured(recipe);
        return [
          prompt,
          recipe.label,
          found?.state ?? "not asked",
          textOf(found),
          answer?.finish_reason ?? "",
          answer?.usage.completion_tokens ?? null,
          answer?.steering?.caps_engaged ?? null,
          known?.coherence.mean ?? null,
          known?.effect?.mean ?? null,
        ];
      }),
    ),
  };
}

/** As it stands on the page: a row for each prompt. */
export function gridTable(grid: Grid): Table {
  return {
    columns: ["Prompt", ...grid.recipes.map((recipe) => headed(recipe, grid.measured(recipe)))],
    rows: grid.prompts.map((prompt, p) => [prompt, ...grid.recipes.map((_, r) => textOf(grid.cell(p, r)))]),
  };
}

/** The base model is what others are measured against, and has no sweep. */
function headed(recipe: Recipe, point: CurvePoint | null): string {
  return recipe.steering === null ? recipe.label : `${recipe.label} (${knownOf(point)})`;
}

export function knownOf(point: CurvePoint | null): string {
  if (!point) return "coherence not measured";
  const effect = point.effect ? `, persona score ${number(point.effect.mean)}` : "";
  return `coherence ${number(point.coherence.mean, 0)}${effect}, in its sweep`;
}
