/** Prompts times recipes: every prompt is answered under every recipe, with one seed. What is typed is kept. */

import { SvelteMap } from "svelte/reactivity";

import { ApiError } from "../api/errors";
import { ask } from "../api/http";
import type { Schemas, SteeringRequest, ValidatedSteering } from "../api/types";
import { count } from "../lib/format";
import { Attempt } from "../studio/attempt.svelte";
import { groups, keyOf, promptsOf, type Cell, type Recipe } from "./grid";
import { remembered } from "./remembered";

const BASE: Recipe = { label: "base model", steering: null };
const draft = remembered("persona-steer.lab.battery", {
  prompts: "",
  recipes: [BASE] as Recipe[],
  seed: 0,
  tokens: 80,
});

class Battery {
  prompts = $state(draft.value.prompts);
  recipes = $state.raw<Recipe[]>(draft.value.recipes);
  seed = $state(draft.value.seed);
  tokens = $state(draft.value.tokens);
  /** What was asked last; the grid shows it until it is asked again. */
  asked = $state.raw<{ prompts: string[]; recipes: Recipe[]; seed: number } | null>(null);
  running = $state(false);
  readonly cells = new SvelteMap<string, Cell>();
  readonly adding = new Attempt();
  private stopper: AbortController | null = null;

  readonly list = $derived(promptsOf(this.prompts));
  readonly lacks = $derived.by((): string | null => {
    if (!this.list.length) return "Write a prompt on each line.";
    if (this.recipes.length < 2) return "Add a recipe to compare with.";
    if (!(this.seed >= 0) || !(this.tokens >= 1)) return "Give a seed and a length.";
    return null;
  });

  keep(): void {
    draft.keep({ prompts: this.prompts, recipes: this.recipes, seed: this.seed, tokens: this.tokens });
  }

  /** Adds a recipe that the server has checked. Whether it was taken. */
  add(steering: SteeringRequest | string): Promise<boolean> {
    return this.adding.run(async (signal) => {
      const found = await ask<ValidatedSteering>("POST", "/api/v1/steering/validate", {
        body: { steering },
        signal,
      });
      const { short } = found;
      const preset = found.steering?.preset;
      const caps = typeof steering === "string" ? 0 : (steering.caps?.length ?? 0);
      const own = [short || "no vector", ...(caps ? [count(caps, "cap")] : [])].join(", ");
      this.put({ label: preset ?? own, steering, short });
    });
  }

  addBase(): void {
    this.put(BASE);
  }

  remove(recipe: Recipe): void {
    this.recipes = this.recipes.filter((one) => one !== recipe);
  }

  /** Answers every prompt, one after the other; `only` those cells that failed. */
  async run(only: "all" | "failed" = "all"): Promise<void> {
    if (only === "all" || !this.asked) {
      this.asked = { prompts: this.list, recipes: this.recipes, seed: this.seed };
      this.cells.clear();
    }
    const { prompts, recipes } = this.asked;
    const stopper = (this.stopper = new AbortController());
    this.running = true;
    try {
      for (const [p] of prompts.entries())
        for (const group of groups(recipes.length)) {
          const open = group.filter((r) => !this.isDone(p, r));
          if (open.length && !stopper.signal.aborted) await this.answer(p, open, stopper.signal);
        }
    } finally {
      if (this.stopper === stopper) this.running = false;
    }
  }

  stop(): void {
    this.stopper?.abort();
    this.running = false;
  }

  private isDone(p: number, r: number): boolean {
    return this.cells.get(keyOf(p, r))?.state === "done";
  }

  /** Answers a prompt under some recipes. Where that is refused, each is asked alone, so that one spoils no other. */
  private async answer(p: number, group: readonly number[], signal: AbortSignal): Promise<void> {
    for (const r of group) this.cells.set(keyOf(p, r), { state: "writing" });
    try {
      const found = await this.compared(p, group, signal);
      for (const [i, r] of group.entries()) this.cells.set(keyOf(p, r), { state: "done", answer: found[i]! });
    } catch (error) {
      if (!signal.aborted && !(error instanceof ApiError)) throw error;
      if (!signal.aborted && group.length > 1) {
        for (const r of group) if (!signal.aborted) await this.answer(p, [r], signal);
        return;
      }
      const cell: Cell = signal.aborted
        ? { state: "stopped" }
        : { state: "failed", message: (error as ApiError).message };
      for (const r of group) this.cells.set(keyOf(p, r), cell);
    }
  }

  private async compared(
    p: number,
    group: readonly number[],
    signal: AbortSignal,
  ): Promise<Schemas["LaneAnswer"][]> {
    const { prompts, recipes, seed } = this.asked!;
    const lanes = group.map((r) => ({ label: recipes[r]!.label, steering: recipes[r]!.steering }));
    const found = await ask<Schemas["Compared"]>("POST", "/api/v1/compare", {
      body: {
        messages: [{ role: "user", content: prompts[p] }],
        lanes: lanes.length > 1 ? lanes : [...lanes, ...lanes], // the server answers two at least
        sampling: { seed, max_tokens: this.tokens },
      },
      signal,
    });
    return found.lanes;
  }

  private put(recipe: Recipe): void {
    if (!this.recipes.some((one) => one.label === recipe.label)) this.recipes = [...this.recipes, recipe];
  }
}

export const battery = new Battery();
