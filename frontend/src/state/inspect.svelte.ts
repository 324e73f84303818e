/** What is read of texts, token by token: along which direction, how it is shown, and what the server found. */

import { SvelteMap } from "svelte/reactivity";

import { ApiError } from "../api/errors";
import { ask } from "../api/http";
import type { Alternatives, PastMessage, ProjectedText, SteeringRequest } from "../api/types";
import { joined, readOf, type Moment, type Pair, type Read, type Scale } from "../inspect/readings";
import { library } from "./library.svelte";
import { recipe } from "./recipe.svelte";
import { server } from "./server.svelte";

export type Asked = SteeringRequest | string | null;

/** A text that can be read: the last of `messages`, as it was written. */
export interface Subject {
  id: string;
  messages: PastMessage[];
  steering: Asked;
  /** Whether the recipe changed in the middle; what is read then is under its last one throughout. */
  changed: boolean;
}

/** A token that somebody looks at. `place` is its own in the text. */
export interface Chosen {
  subject: Subject;
  at: number;
}

export type Loaded<T> =
  { state: "loading" } | { state: "failed"; error: ApiError } | { state: "done"; found: T };

/** A token's readings at every layer. */
export interface Profile {
  axis: string;
  pairs: Pair[];
}

const KEY = "persona-steer.inspect";
const DRIFT = ["assistant", "safety"]; // axes that are followed over a conversation, where they have been made

class Inspect {
  asked = $state<string | null>(null); // the axis that somebody chose
  moment = $state<Moment>("after");
  scale = $state<Scale>("z");
  threshold = $state(0);
  table = $state(false);
  drift = $state(false);
  chosen = $state.raw<Chosen | null>(null);
  profile = $state.raw<Loaded<Profile> | null>(null);
  alternatives = $state.raw<Loaded<Alternatives["alternatives"]> | null>(null);
  private reads = new SvelteMap<string, Read>();
  private failures = new SvelteMap<string, ApiError>();
  private texts = new Map<string, string>(); // what was read under an id: an answer may have grown since
  private going = new Set<string>();
  private line: Promise<void> = Promise.resolve(); // one text after the other: each is a pass through the model

  /** What can be read on the loaded model, axes first. */
  readonly choices = $derived(
    [...library.axes.filter((card) => card.kind === "axis"), ...library.personas, ...library.traits]
      .filter((card) => card.status !== "other_model" && card.status !== "broken")
      .map((card) => card.name),
  );
  readonly driftAxes = $derived(DRIFT.filter((name) => this.choices.includes(name)));
  /** The axis that colours: the chosen one, else the first that steers, else the first there is. */
  readonly axis = $derived.by(() => {
    const wished = [this.asked, recipe.active[0]?.name, ...this.choices];
    return wished.find((name) => name && this.choices.includes(name)) ?? null;
  });

  constructor() {
    this.restore();
    server.on("model", () => this.forget());
    server.on("library", (news) => news.kind !== "preset" && this.forget());
  }

  set(change: Partial<Pick<Inspect, "asked" | "moment" | "scale" | "threshold" | "table" | "drift">>): void {
    Object.assign(this, change);
    const { asked, moment, scale, threshold, table, drift } = this;
    localStorage.setItem(KEY, JSON.stringify({ asked, moment, scale, threshold, table, drift }));
  }

  found(id: string): Read | undefined {
    return this.reads.get(id);
  }

  failed(id: string): ApiError | undefined {
    return this.failures.get(id);
  }

  /** Reads a text along the axes that are shown, unless that is known. Call it in `$effect`. */
  read(subject: Subject, axes: readonly string[]): void {
    const text = contentOf(subject);
    if (this.texts.get(subject.id) !== text) {
      this.texts.set(subject.id, text);
      this.reads.delete(subject.id);
      this.failures.delete(subject.id);
    }
    const known = this.reads.get(subject.id)?.axes;
    const missing = [...new Set(axes)].filter((axis) => !known?.has(axis));
    const key = [subject.id, text.length, ...missing].join(" ");
    if (!missing.length || this.going.has(key) || this.failures.has(subject.id) || !server.isReady) return;
    this.going.add(key);
    const read = this.line.then(() => this.project(subject, missing)).finally(() => this.going.delete(key));
    this.line = read.catch(reportError); // a text that breaks the reading holds up no other
  }

  retry(subject: Subject, axes: readonly string[]): void {
    this.failures.delete(subject.id);
    this.read(subject, axes);
  }

  choose(subject: Subject, at: number): void {
    if (this.chosen?.subject.id === subject.id && this.chosen.at === at) return;
    this.chosen = { subject, at };
    this.profile = this.alternatives = null;
  }

  close(): void {
    this.chosen = this.profile = this.alternatives = null;
  }

  /** All layers of the chosen token, and what might have stood in its place. */
  async look(): Promise<void> {
    const { chosen } = this;
    if (!chosen) return;
    await Promise.all([this.lookAtLayers(chosen), this.lookAtAlternatives(chosen)]);
  }

  /** A recipe that also tells the readings of its tokens. Without a recipe it is the base model that is read. */
  traced(steering: SteeringRequest | null): SteeringRequest | null {
    if (this.axis === null) return steering;
    const axes = [...new Set([this.axis, ...this.driftAxes])];
    return { ...(steering ?? { safety: false }), trace: { axes } } as SteeringRequest;
  }

  private async project(subject: Subject, axes: string[]): Promise<void> {
    try {
      const found = await ask<ProjectedText>("POST", "/api/v1/project", {
        body: { ...textOf(subject), axes },
      });
      if (this.texts.get(subject.id) !== contentOf(subject)) return;
      const read = readOf(found, subject.messages.length - 1);
      this.reads.set(subject.id, joined(this.reads.get(subject.id), read));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.failures.set(subject.id, error);
    }
  }

  private async lookAtLayers(chosen: Chosen): Promise<void> {
    const axis = this.axis;
    const place = this.reads.get(chosen.subject.id)?.tokens[chosen.at]?.place ?? null;
    const count = server.system?.model?.layers;
    if (!axis || place === null || !count) return;
    const layers = Array.from({ length: count }, (_, layer) => layer);
    const body = { ...textOf(chosen.subject), axes: [axis], layers, tokens: [place] };
    await this.load(chosen, "profile", async () => {
      const { tokens } = await ask<ProjectedText>("POST", "/api/v1/project", { body });
      return { axis, pairs: layers.map((layer) => tokens[0]!.readings[axis]![String(layer)]!) };
    });
  }

  private async lookAtAlternatives(chosen: Chosen): Promise<void> {
    const { subject, at } = chosen;
    if (subject.messages.at(-1)?.role !== "assistant") return;
    const before = (this.reads.get(subject.id)?.tokens ?? []).slice(0, at);
    const body = {
      messages: subject.messages.slice(0, -1),
      answer_prefix: before.map((token) => token.text).join(""),
      steering: withoutTrace(subject.steering),
      top: 8,
    };
    await this.load(chosen, "alternatives", async () => {
      return (await ask<Alternatives>("POST", "/api/v1/project/alternatives", { body })).alternatives;
    });
  }

  private async load<Name extends "profile" | "alternatives">(
    chosen: Chosen,
    name: Name,
    ask: () => Promise<unknown>,
  ): Promise<void> {
    const show = (found: Loaded<unknown>) => {
      if (this.chosen === chosen) Object.assign(this, { [name]: found });
    };
    show({ state: "loading" });
    try {
      show({ state: "done", found: await ask() });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      show({ state: "failed", error });
    }
  }

  /** Another model, or other vectors: what was read holds no longer. */
  private forget(): void {
    this.reads.clear();
    this.failures.clear();
    this.close();
  }

  private restore(): void {
    try {
      Object.assign(this, JSON.parse(localStorage.getItem(KEY) ?? "{}"));
    } catch {
      localStorage.removeItem(KEY);
    }
  }
}

function contentOf(subject: Subject): string {
  return subject.messages.at(-1)?.content ?? "";
}

function textOf({ messages, steering }: Subject): { messages: PastMessage[]; steering: Asked } {
  return { messages, steering: messages.at(-1)?.role === "assistant" ? withoutTrace(steering) : null };
}

/** The recipe alone: what was told of the tokens then is asked for anew. */
export function withoutTrace(steering: Asked): Asked {
  if (steering === null || typeof steering === "string") return steering;
  const { trace: _, ...rest } = steering;
  return rest as SteeringRequest;
}

export const inspect = new Inspect();
