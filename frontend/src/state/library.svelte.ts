/** The stored vectors, and what could be made of what ships with the package. */

import { ask } from "../api/http";
import type { Archetype, BuiltinTrait, VectorCard } from "../api/types";
import type { Kind } from "./recipe.svelte";
import { server } from "./server.svelte";

interface PageOf<Item> {
  data: Item[];
  last_id: string | null;
  has_more: boolean;
}

class Library {
  personas = $state.raw<VectorCard[]>([]);
  traits = $state.raw<VectorCard[]>([]);
  axes = $state.raw<VectorCard[]>([]);
  archetypes = $state.raw<Archetype[]>([]);
  builtinTraits = $state.raw<BuiltinTrait[]>([]);
  loaded = $state(false);

  /** What can steer the loaded model, the ready ones first. */
  readonly steerable = $derived(
    [...this.personas, ...this.traits]
      .filter((card) => card.status !== "other_model" && card.status !== "broken")
      .sort(byReadiness),
  );
  readonly ready = $derived(this.steerable.filter((card) => card.status === "ready"));

  constructor() {
    server.on("library", () => void this.refresh().catch(() => {}));
    server.on("back", () => void this.refresh().catch(() => {}));
    server.on("model", () => void this.refresh().catch(() => {}));
  }

  async refresh(): Promise<void> {
    const [personas, traits, axes, archetypes, builtin] = await Promise.all([
      everything<VectorCard>("/api/v1/personas"),
      everything<VectorCard>("/api/v1/traits"),
      everything<VectorCard>("/api/v1/axes"),
      everything<Archetype>("/api/v1/archetypes"),
      everything<BuiltinTrait>("/api/v1/builtin-traits"),
    ]);
    Object.assign(this, { personas, traits, axes, archetypes, builtinTraits: builtin, loaded: true });
  }

  find(name: string): VectorCard | undefined {
    return [...this.personas, ...this.traits].find(
      (card) => card.name === name && card.status !== "other_model",
    );
  }

  kindOf(name: string): Kind {
    return this.traits.some((card) => card.name === name) ? "trait" : "persona";
  }

  get hasSafetyAxis(): boolean {
    return this.axes.some((card) => card.name === "safety" && card.status !== "other_model");
  }
}

/** All pages of a list. */
export async function everything<Item>(path: string, query: Record<string, string> = {}): Promise<Item[]> {
  const found: Item[] = [];
  for (let after: string | null = null; ;) {
    const page: PageOf<Item> = await ask("GET", path, {
      query: { ...query, limit: 100, after, order: "asc" },
    });
    found.push(...page.data);
    if (!page.has_more) return found;
    after = page.last_id;
  }
}

function byReadiness(a: VectorCard, b: VectorCard): number {
  return Number(b.status === "ready") - Number(a.status === "ready") || a.name.localeCompare(b.name);
}

export const library = new Library();
