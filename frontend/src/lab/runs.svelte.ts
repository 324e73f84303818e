/** What was measured on the loaded model, read once and again when a measurement has ended. */

import { SvelteMap } from "svelte/reactivity";

import { ApiError } from "../api/errors";
import { ask } from "../api/http";
import type { Job, Run, Schemas } from "../api/types";
import { jobs } from "../state/jobs.svelte";
import { everything } from "../state/library.svelte";
import { server } from "../state/server.svelte";

export type Kind = "sweep" | "layers" | "similarity";
export type Data = {
  sweep: Schemas["SweepData"];
  layers: Schemas["LayersData"];
  similarity: Schemas["SimilarityData"];
};

const SHOWN = 60; // runs of one kind; older ones are in the API

export class Runs<K extends Kind> {
  /** The newest first; null: not read yet. */
  all = $state.raw<Run[] | null>(null);
  /** One that was measured while somebody looks. */
  arrived = $state<string | null>(null);
  problem = $state.raw<ApiError | null>(null);
  private data = new SvelteMap<string, Data[K]["result"] | ApiError>();
  private asked = new Set<string>();

  constructor(private readonly kind: K) {}

  /** Keeps the list up to date. Call it in `$effect`; it returns what ends that. */
  follow(): () => void {
    this.arrived = this.all = null;
    void this.refresh();
    const again = () => void this.refresh();
    const ends = [
      server.on("job", (event) => event.type === "done" && again()),
      server.on("back", again),
      server.on("model", again),
    ];
    return () => ends.forEach((end) => end());
  }

  /** The numbers of a run; null while they are on their way, or where they cannot be had. */
  result(id: string): Data[K]["result"] | null {
    const found = this.data.get(id);
    return found === undefined || found instanceof ApiError ? null : found;
  }

  failure(id: string): ApiError | null {
    const found = this.data.get(id);
    return found instanceof ApiError ? found : null;
  }

  /** Reads the numbers of a run, once. */
  async need(id: string): Promise<void> {
    if (this.asked.has(id)) return;
    this.asked.add(id);
    try {
      this.data.set(id, (await ask<Data[K]>("GET", `/api/v1/runs/${id}/data`)).result);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.data.set(id, error);
      if (error.isPassing) this.asked.delete(id);
    }
  }

  async refresh(): Promise<void> {
    if (!server.system) return; // not known yet which model this is; whoever follows comes again
    const model = server.system.model?.fingerprint;
    try {
      const page = await ask<{ data: Run[] }>("GET", "/api/v1/runs", {
        query: { kind: this.kind, model, limit: SHOWN },
      });
      const found = page.data.filter((run) => run.has_data);
      const newest = found[0]?.id ?? null;
      if (this.all !== null && newest !== this.all[0]?.id) this.arrived = newest;
      this.all = found;
      this.problem = null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error;
    }
  }
}

/** Has the server measure something; what comes of it is one of the runs. */
export async function orderMeasurement(path: string, order: unknown, signal: AbortSignal): Promise<void> {
  jobs.put(await ask<Job>("POST", path, { body: order, signal }));
}

/** The answers behind a point. */
export function answersOf(run: string, point: number): Promise<Schemas["RunAnswer"][]> {
  return everything<Schemas["RunAnswer"]>(`/api/v1/runs/${run}/answers`, { point: String(point) });
}

export const sweeps = new Runs("sweep");
export const scans = new Runs("layers");
export const similarities = new Runs("similarity");
