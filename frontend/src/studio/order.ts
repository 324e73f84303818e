/** What somebody has put together in the studio, and the request that it comes to. */

import type { Schemas } from "../api/types";
import { slug } from "../lib/slug";

export type Effort = "quick" | "standard" | "thorough";
export type Way = "description" | "archetype" | "prompts";
export interface Pair {
  positive: string;
  negative: string;
}

export interface PersonaDraft {
  way: Way;
  name: string;
  description: string;
  archetype: string;
  prompts: string[];
  /** What the prompts were taken from; empty while they are nobody's but the writer's. */
  origin: string;
  untouched: boolean; // the prompts are still those of the archetype
  questions: string[] | null; // null: the usual ones
  usual: string[]; // the usual ones, where the server has told them
  effort: Effort;
}

export interface TraitDraft {
  word: string;
  opposite: string;
  name: string;
  pairs: Pair[];
  origin: string; // what the pairs were taken from
  source: Schemas["TraitPreview"]["source"] | "";
  untouched: boolean;
  questions: string[] | null;
  usual: string[];
  effort: Effort;
}

export const LEAST_QUESTIONS = 4;
export const MOST_PROMPTS = 20;
export const LONGEST_PROMPT = 2000;

export function emptyPersona(): PersonaDraft {
  return {
    way: "description",
    name: "",
    description: "",
    archetype: "",
    prompts: [],
    origin: "",
    untouched: false,
    questions: null,
    usual: [],
    effort: "standard",
  };
}

export function emptyTrait(): TraitDraft {
  return {
    word: "",
    opposite: "",
    name: "",
    pairs: [],
    origin: "",
    source: "",
    untouched: true,
    questions: null,
    usual: [],
    effort: "standard",
  };
}

/** What the prompts depend on: where it changes, they are written or looked up again. */
export function personaOrigin(draft: PersonaDraft): string {
  if (draft.way === "archetype") return `archetype:${draft.archetype}`;
  return draft.way === "description" ? `description:${draft.description.trim()}` : "own";
}

export function traitOrigin(draft: TraitDraft): string {
  return `${draft.word.trim()}/${draft.opposite.trim()}`;
}

export function traitName(draft: TraitDraft): string {
  return slug(draft.name || draft.word);
}

export function personaOrder(draft: PersonaDraft): Schemas["PersonaParams"] {
  const name = slug(draft.name);
  const shared = { name, effort: draft.effort, ...own(draft.questions) };
  if (draft.way === "archetype" && draft.untouched) return { ...shared, archetype: draft.archetype };
  const description = draft.description.trim();
  return { ...shared, system_prompts: filled(draft.prompts), ...(description && { description }) };
}

export function traitOrder(draft: TraitDraft): Schemas["TraitParams"] {
  const name = traitName(draft);
  const word = draft.word.trim();
  const opposite = draft.opposite.trim();
  return {
    word,
    effort: draft.effort,
    ...(opposite && { opposite }),
    ...(name !== word && { name }),
    ...(!draft.untouched && {
      pairs: draft.pairs.filter((pair) => pair.positive.trim() && pair.negative.trim()),
    }),
    ...own(draft.questions),
  };
}

/** A draft out of what was asked for before, under a name. */
export function personaOf(order: Partial<Schemas["PersonaParams"]>, name: string): PersonaDraft {
  const draft: PersonaDraft = {
    ...emptyPersona(),
    way: order.archetype
      ? "archetype"
      : order.description || !order.system_prompts
        ? "description"
        : "prompts",
    name,
    archetype: order.archetype ?? "",
    description: order.description ?? "",
    prompts: [...(order.system_prompts ?? [])],
    questions: listed(order.questions),
    effort: order.effort ?? "standard",
  };
  return { ...draft, origin: draft.prompts.length ? personaOrigin(draft) : "" };
}

export function traitOf(order: Partial<Schemas["TraitParams"]>, name: string): TraitDraft {
  const pairs = (order.pairs ?? []).map((pair) => ({ ...pair }));
  const draft: TraitDraft = {
    ...emptyTrait(),
    word: order.word ?? "",
    opposite: order.opposite ?? "",
    name: name === order.word ? "" : name,
    pairs,
    untouched: !pairs.length,
    questions: listed(order.questions),
    effort: order.effort ?? "standard",
  };
  return { ...draft, origin: pairs.length ? traitOrigin(draft) : "" };
}

function listed(questions: number | string[] | null | undefined): string[] | null {
  return Array.isArray(questions) ? [...questions] : null;
}

/** What is missing before it can be made; empty when nothing is. */
export function missing(texts: readonly string[], questions: readonly string[] | null): string {
  if (!filled(texts).length) return "At least one prompt is needed.";
  if (questions && filled(questions).length < LEAST_QUESTIONS)
    return `At least ${LEAST_QUESTIONS} questions are needed.`;
  return "";
}

function own(questions: readonly string[] | null): { questions?: string[] } {
  return questions ? { questions: filled(questions) } : {};
}

function filled(texts: readonly string[]): string[] {
  return texts.map((text) => text.trim()).filter(Boolean);
}
