/** A text that somebody pastes, to be read along directions. What is typed is kept. */

import { ask } from "../api/http";
import type { PastMessage, ProjectedText, SteeringRequest } from "../api/types";
import { Attempt } from "../studio/attempt.svelte";
import { remembered } from "./remembered";
import type { ReadText } from "./projected";
import { parseTranscript } from "./transcript";

export type Form = "text" | "transcript";
export const MOST_AXES = 4;

const draft = remembered("persona-steer.lab.projection", {
  form: "text" as Form,
  text: "",
  axes: [] as string[],
});

class Projection {
  form = $state<Form>(draft.value.form);
  text = $state(draft.value.text);
  axes = $state.raw<string[]>(draft.value.axes);
  underRecipe = $state(false);
  read = $state.raw<ReadText | null>(null);
  readonly attempt = new Attempt();

  readonly messages = $derived(this.form === "transcript" ? parseTranscript(this.text) : null);
  /** What is missing; null: it can be read. */
  readonly lacks = $derived.by((): string | null => {
    if (!this.text.trim()) return "Paste a text first.";
    if (!this.axes.length) return "Choose a direction.";
    if (this.form === "transcript" && !this.messages)
      return "Begin each message with User: or Assistant:, and say something in it.";
    return null;
  });

  /** Keeps what is typed. Call it in `$effect`. */
  keep(): void {
    draft.keep({ form: this.form, text: this.text, axes: this.axes });
  }

  look(steering: SteeringRequest | null): Promise<boolean> {
    const messages: PastMessage[] | null = this.messages;
    const asked = messages
      ? { messages, ...(this.underRecipe && steering && { steering }) }
      : { text: this.text };
    return this.attempt.run(async (signal) => {
      const body = { ...asked, axes: this.axes };
      const found = await ask<ProjectedText>("POST", "/api/v1/project", { body, signal });
      this.read = { messages, found };
    });
  }
}

export const projection = new Projection();
