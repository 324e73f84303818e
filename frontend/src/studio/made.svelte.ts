/** What was made, and all that was measured of it. */

import { ask } from "../api/http";
import type { Run, Schemas, VectorCard, VectorDetail } from "../api/types";
import { library } from "../state/library.svelte";
import { server } from "../state/server.svelte";

type Measured = Schemas["Measured"];
export const PATHS = { persona: "personas", trait: "traits" } as const;
export type MadeKind = keyof typeof PATHS;

const ALIKE = 0.9; // cosine from which two vectors are said to do nearly the same
const COMPARED = 21; // vectors that it is compared with
const AT_ONCE = 7; // beside itself, in one recipe

export class Made {
  detail = $state.raw<VectorDetail | null>(null);
  examples = $state.raw<Schemas["VectorExamples"] | null>(null);
  layers = $state.raw<Schemas["LayerScan"] | null>(null);
  overlaps = $state.raw<Schemas["Overlap"][]>([]);

  /** Strength 1 as it steers here: the safe form where steering is safe. */
  readonly measured: Measured | null = $derived.by(() => {
    const found = this.detail?.calibration ?? null;
    return (this.isSafe && found?.safe) || found;
  });

  constructor(
    readonly kind: MadeKind,
    readonly name: string,
  ) {}

  get isSafe(): boolean {
    return (server.system?.settings.safety ?? true) && !!this.detail?.calibration?.safe;
  }

  async read(signal: AbortSignal): Promise<void> {
    const path = `/api/v1/${PATHS[this.kind]}/${encodeURIComponent(this.name)}`;
    this.detail = await ask<VectorDetail>("GET", path, { signal });
    this.examples = await ask<Schemas["VectorExamples"]>("GET", `${path}/examples`, { signal });
    await Promise.all([this.readLayers(signal), this.compare(signal)]);
  }

  private async readLayers(signal: AbortSignal): Promise<void> {
    const runs = await ask<{ data: Run[] }>("GET", "/api/v1/runs", {
      query: { kind: "layers", name: this.name, model: this.detail?.model?.fingerprint, limit: 1 },
      signal,
    });
    const run = runs.data[0];
    if (!run?.has_data) return;
    this.layers = (await ask<Schemas["LayersData"]>("GET", `/api/v1/runs/${run.id}/data`, { signal })).result;
  }

  private async compare(signal: AbortSignal): Promise<void> {
    if (!server.isReady) return; // the server compares vectors where it has a model to steer
    const others = library.steerable.filter((card) => card.name !== this.name).slice(0, COMPARED);
    const found: Schemas["Overlap"][] = [];
    for (let i = 0; i < others.length; i += AT_ONCE)
      found.push(...(await this.overlapsWith(others.slice(i, i + AT_ONCE), signal)));
    this.overlaps = found;
  }

  private async overlapsWith(
    others: readonly VectorCard[],
    signal: AbortSignal,
  ): Promise<Schemas["Overlap"][]> {
    const vectors = [this.name, ...others.map((card) => card.name)].map((name) => ({
      name,
      coefficient: 0.01,
    }));
    const { overlaps } = await ask<Schemas["ValidatedSteering"]>("POST", "/api/v1/steering/validate", {
      body: { steering: { vectors } },
      signal,
    });
    return overlaps.filter(
      ({ a, b, cosine }) => (a === this.name || b === this.name) && Math.abs(cosine) >= ALIKE,
    );
  }
}
