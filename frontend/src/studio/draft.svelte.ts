/** What is being made, as far as it is: kept in the browser until the job has begun. */

import { ask } from "../api/http";
import type { Schemas } from "../api/types";
import { slug } from "../lib/slug";
import {
  emptyPersona,
  emptyTrait,
  personaOf,
  personaOrigin,
  traitOf,
  traitOrigin,
  type PersonaDraft,
  type TraitDraft,
  type Way,
} from "./order";

const KEY = "persona-steer.studio";
const WRITTEN = 5; // prompts of a new persona

class Drafts {
  persona = $state<PersonaDraft>(emptyPersona());
  trait = $state<TraitDraft>(emptyTrait());
  private seed = 0;
  private other = new Map<Way, PersonaDraft>();

  constructor() {
    this.restore();
    $effect.root(() => {
      $effect(() => localStorage.setItem(KEY, JSON.stringify([this.persona, this.trait])));
    });
  }

  /** Begins in another way. What was prepared in the way before is there again when it is turned back to. */
  turn(way: Way): void {
    const { name, effort, description } = this.persona;
    this.other.set(this.persona.way, $state.snapshot(this.persona));
    const before = this.other.get(way) ?? {
      ...emptyPersona(),
      description: way === "archetype" ? "" : description,
    };
    this.persona = { ...before, way, name, effort };
  }

  /** Has the prompts ready that the persona is made from: those of the archetype, or newly written ones. */
  async preparePersona(signal: AbortSignal): Promise<void> {
    const draft = this.persona;
    const origin = personaOrigin(draft);
    if (draft.origin === origin && draft.prompts.length) return;
    if (draft.way === "archetype") {
      const found = await ask<Schemas["ArchetypeDetail"]>("GET", `/api/v1/archetypes/${draft.archetype}`, {
        signal,
      });
      Object.assign(draft, {
        prompts: found.system_prompts,
        description: found.description,
        untouched: true,
      });
    } else if (draft.way === "description") {
      const found = await this.write(WRITTEN, signal);
      Object.assign(draft, { prompts: found.system_prompts, usual: found.questions, untouched: false });
    } else {
      Object.assign(draft, { prompts: draft.prompts.length ? draft.prompts : [""], untouched: false });
    }
    draft.origin = origin;
  }

  /** Another prompt in the place of one. */
  async rewrite(place: number, signal: AbortSignal): Promise<void> {
    const found = await this.write(1, signal);
    const text = found.system_prompts[0];
    if (text) this.persona.prompts[place] = text;
  }

  /** Has both sides of the trait ready: the library's, or sentences made of the words. */
  async prepareTrait(signal: AbortSignal): Promise<void> {
    if (this.trait.origin !== traitOrigin(this.trait) || !this.trait.pairs.length)
      await this.takePairs({ write: false }, signal);
  }

  /** Has a model write the pairs and questions of the trait. */
  async writeTrait(signal: AbortSignal): Promise<void> {
    await this.takePairs({ write: true, seed: this.seed++ }, signal);
    this.trait.untouched = false;
    this.trait.questions = [...this.trait.usual];
  }

  /** Starts from what was asked for before: that of a job, as it kept it. */
  refine(order: Record<string, unknown>, kind: "persona" | "trait", name: string): void {
    if (kind === "trait") this.trait = traitOf(order as Partial<Schemas["TraitParams"]>, name);
    else this.persona = personaOf(order as Partial<Schemas["PersonaParams"]>, name);
  }

  forget(kind: "persona" | "trait"): void {
    if (kind === "persona") {
      this.persona = emptyPersona();
      this.other.clear();
    } else this.trait = emptyTrait();
  }

  private async takePairs(how: { write: boolean; seed?: number }, signal: AbortSignal): Promise<void> {
    const draft = this.trait;
    const found = await ask<Schemas["TraitPreview"]>("POST", "/api/v1/traits/preview", {
      body: { word: draft.word.trim(), opposite: draft.opposite.trim() || null, ...how },
      signal,
    });
    Object.assign(draft, {
      pairs: found.pairs,
      opposite: draft.opposite || found.opposite,
      usual: found.questions,
      questions: null,
      source: found.source,
      untouched: true,
    });
    draft.origin = traitOrigin(draft);
  }

  private write(prompts: number, signal: AbortSignal): Promise<Schemas["PersonaPreview"]> {
    const { name, description } = this.persona;
    return ask<Schemas["PersonaPreview"]>("POST", "/api/v1/personas/preview", {
      body: { name: slug(name), description: description.trim(), prompts, seed: this.seed++ },
      signal,
    });
  }

  private restore(): void {
    const found = localStorage.getItem(KEY);
    if (!found) return;
    try {
      const [persona, trait] = JSON.parse(found);
      this.persona = { ...emptyPersona(), ...persona };
      this.trait = { ...emptyTrait(), ...trait };
    } catch {
      localStorage.removeItem(KEY); // of an older page
    }
  }
}

export const drafts = new Drafts();
