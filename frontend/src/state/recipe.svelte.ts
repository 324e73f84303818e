/** What steers the next answer, as somebody sets it. The server says what it comes to; nothing is computed here. */

import type { SteeringRequest } from "../api/types";

export const STRONGEST = 2;
export type Kind = "persona" | "trait";
type Cap = NonNullable<SteeringRequest["caps"]>[number];

export interface Part {
  name: string;
  kind: Kind;
  strength: number;
  on: boolean;
  layers: number[] | null;
}

const KEY = "persona-steer.recipe";

export class Recipe {
  parts = $state<Part[]>([]);
  scale = $state(1);
  safety = $state<boolean | null>(null); // null: as the server is configured
  caps = $state<Cap[]>([]);
  preset = $state<string | null>(null); // the one it was taken from
  changed = $state(false); // since then
  chosen = $state<string | null>(null); // the part that keys change

  /** As a request says it; null for the base model. */
  readonly steering = $derived.by(() => this.asSteering());
  /** Names and strengths, for people: "sage 0.6 · formal −0.3". */
  readonly active = $derived(this.parts.filter((part) => part.on && part.strength !== 0));

  add(name: string, kind: Kind, strength: number): void {
    const there = this.find(name);
    if (there) there.on = true;
    else this.parts.push({ name, kind, strength: bounded(strength), on: true, layers: null });
    this.chosen = name;
    this.changed = true;
  }

  set(name: string, change: Partial<Omit<Part, "name" | "kind">>): void {
    const part = this.find(name);
    if (!part) return;
    Object.assign(part, change, change.strength === undefined ? {} : { strength: bounded(change.strength) });
    this.changed = true;
  }

  remove(name: string): void {
    this.parts = this.parts.filter((part) => part.name !== name);
    if (this.chosen === name) this.chosen = null;
    this.changed = true;
  }

  clear(): void {
    this.take(null);
  }

  nudge(by: number): void {
    const part = this.find(this.chosen ?? this.parts[0]?.name ?? "");
    if (part) this.set(part.name, { strength: part.strength + by });
  }

  choose(step: 1 | -1): void {
    const place = this.parts.findIndex((part) => part.name === this.chosen);
    const next = this.parts[(place + step + this.parts.length) % Math.max(this.parts.length, 1)];
    this.chosen = next?.name ?? null;
  }

  /** Takes over a preset, a shared recipe, or (null) nothing at all. `kindOf` tells what a bare name is. */
  take(
    given: SteeringRequest | null,
    options: { preset?: string; kindOf?: (name: string) => Kind } = {},
  ): void {
    const kindOf = options.kindOf ?? (() => "persona" as const);
    const part = (name: string, kind: Kind, strength: number, layers: number[] | null = null): Part => ({
      name,
      kind,
      strength: bounded(strength),
      on: true,
      layers,
    });
    this.parts = [
      ...Object.entries(given?.personas ?? {}).map(([name, weight]) => part(name, "persona", weight)),
      ...Object.entries(given?.traits ?? {}).map(([name, weight]) => part(name, "trait", weight)),
      ...(given?.vectors ?? []).map((one) =>
        part(one.name, kindOf(one.name), one.coefficient, one.layers ?? null),
      ),
    ];
    this.scale = given?.scale ?? 1;
    this.safety = given?.safety ?? null;
    this.caps = given?.caps ?? [];
    this.preset = options.preset ?? null;
    this.changed = false;
    this.chosen = this.parts[0]?.name ?? null;
  }

  /** Takes over the recipe of the last visit, and keeps it from now on. To be called once. */
  remember(): void {
    const found = localStorage.getItem(KEY);
    if (found) this.restore(found);
    $effect.root(() => {
      $effect(() =>
        localStorage.setItem(
          KEY,
          JSON.stringify([this.parts, this.scale, this.safety, this.caps, this.preset, this.changed]),
        ),
      );
    });
  }

  private restore(text: string): void {
    try {
      [this.parts, this.scale, this.safety, this.caps, this.preset, this.changed] = JSON.parse(text);
      this.chosen = this.parts[0]?.name ?? null;
    } catch {
      localStorage.removeItem(KEY); // of an older page
    }
  }

  private find(name: string): Part | undefined {
    return this.parts.find((part) => part.name === name);
  }

  private asSteering(): SteeringRequest | null {
    if (!this.active.length && !this.caps.length) return null;
    const vectors = this.active.map(({ name, strength, layers }) => ({
      name,
      coefficient: strength,
      ...(layers && { layers }),
    }));
    return {
      vectors,
      ...(this.scale !== 1 && { scale: this.scale }),
      ...(this.safety !== null && { safety: this.safety }),
      ...(this.caps.length && { caps: this.caps }),
    } as SteeringRequest;
  }
}

function bounded(strength: number): number {
  return Math.round(Math.min(STRONGEST, Math.max(-STRONGEST, strength)) * 100) / 100;
}

export const recipe = new Recipe();
