/** What was measured of the vectors: their newest sweeps, read once and again when a sweep has ended. */

import { SvelteMap } from "svelte/reactivity";

import { ask } from "../api/http";
import type { Run, Schemas } from "../api/types";
import { fromCard, fromSweep, type Curve } from "../lib/curve";
import { library } from "./library.svelte";
import { server } from "./server.svelte";

class Evidence {
  private sweeps = new SvelteMap<string, Curve | null>(); // null: there is none
  private asked = new Set<string>();

  constructor() {
    server.on("job", (event) => event.type === "done" && this.forget());
    server.on("back", () => this.forget());
    server.on("model", () => this.forget());
  }

  /** What is known of a vector as it steers; null where nothing was measured. */
  curve(name: string, safe: boolean): Curve | null {
    const sweep = this.sweeps.get(name);
    if (sweep) return sweep;
    const card = library.find(name);
    return card ? fromCard(card, safe) : null;
  }

  /** Reads the newest sweep of a vector. Call it in `$effect`. */
  async need(name: string): Promise<void> {
    if (this.asked.has(name)) return;
    this.asked.add(name);
    const runs = await ask<{ data: Run[] }>("GET", "/api/v1/sweeps", { query: { name, limit: 1 } });
    const run = runs.data[0];
    if (!run?.has_data) return void this.sweeps.set(name, null);
    const data = await ask<Schemas["SweepData"]>("GET", `/api/v1/runs/${run.id}/data`);
    this.sweeps.set(name, fromSweep(data.result));
  }

  private forget(): void {
    this.asked.clear();
    this.sweeps.clear();
  }
}

export const evidence = new Evidence();
