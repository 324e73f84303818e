/** What is being made, as far as it is: kept in the browser until the job has begun. */

import { ask } from "../api/http";
import type { Schemas, VectorCard } from "../api/types";
import { slug } from "../lib/slug";
import {
  emptyPersona,
  emptyTrait,
  personaOrigin,
  traitOrigin,
  type PersonaDraft,
  type TraitDraft,
} from "./order";

const KEY = "persona-steer.studio";
const WRITTEN = 5; // prompts of a new persona

class Drafts {
  persona = $state<PersonaDraft>(emptyPersona());
  trait = $state<TraitDraft>(emptyTrait());
  private seed = 0;

  constructor() {
    this.restore();
    $effect.root(() => {
      $effect(() => localStorage.setItem(KEY, JSON.stringify([this.persona, this.trait])));
    });
  }

  /** Has the prompts ready that the persona is made from: those of the archetype, or newly written ones. */
  async preparePersona(signal: AbortSignal): Promise<void> {
    const draft = this.persona;
    const origin = personaOrigin(draft);
    if (draft.origin === origin && draft.prompts.length) return;
    if (draft.way === "archetype") {
      const found = await ask<Schemas["ArchetypeDetail"]>("GET", `/api/v1/archetypes/${draft.archetype}`, { signal });
      Object.assign(draft, { prompts: found.system_prompts, description: found.description, untouched: true });
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

  /** Starts from what an existing vector was made from, under another name. */
  refine(order: Record<string, unknown>, card: VectorCard, name: string): void {
    if (card.kind === "trait") {
      const { word, opposite } = order as Partial<Schemas["TraitParams"]>;
      const pairs = (order.pairs ?? []) as TraitDraft["pairs"];
      const draft = { ...emptyTrait(), word: word ?? card.name, opposite: opposite ?? "", name, pairs };
      this.trait = { ...draft, untouched: !pairs.length, origin: pairs.length ? traitOrigin(draft) : "" };
      return;
    }
    const given = order as Partial<Schemas["PersonaParams"]>;
    const way = given.archetype ? "archetype" : given.description ? "description" : "prompts";
    const draft: PersonaDraft = {
      ...emptyPersona(),
      way,
      name,
      archetype: given.archetype ?? "",
      description: given.description ?? card.description,
      prompts: [...(given.system_prompts ?? [])],
    };
    this.persona = { ...draft, origin: draft.prompts.length ? personaOrigin(draft) : "" };
  }

  forget(kind: "persona" | "trait"): void {
    if (kind === "persona") this.persona = emptyPersona();
    else this.trait = emptyTrait();
  }

  private async takePairs(how: { write: boolean; seed?: number }, signal: AbortSignal): Promise<void> {
    const draft = this.trait;
    const origin = traitOrigin(draft);
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
    draft.origin = found.opposite === draft.opposite ? traitOrigin(draft) : origin;
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
