/** What the server says of the recipe: warnings, overlaps, and ranges that were measured. */

import { ApiError } from "../api/errors";
import { ask } from "../api/http";
import type { ValidatedSteering } from "../api/types";
import { recipe } from "./recipe.svelte";
import { server } from "./server.svelte";

const PATIENCE = 250; // milliseconds after the last change

class Checked {
  found = $state.raw<ValidatedSteering | null>(null);
  problem = $state.raw<ApiError | null>(null);

  /** Follows the recipe. Returns what ends that; call it in `$effect`. */
  follow(): () => void {
    const { steering } = recipe;
    const ready = server.isReady;
    if (!steering || !ready) {
      this.found = this.problem = null;
      return () => {};
    }
    const control = new AbortController();
    const timer = setTimeout(() => void this.check(steering, control.signal), PATIENCE);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }

  private async check(steering: unknown, signal: AbortSignal): Promise<void> {
    try {
      this.found = await ask<ValidatedSteering>("POST", "/api/v1/steering/validate", {
        body: { steering },
        signal,
      });
      this.problem = null;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.found = null;
      this.problem = error;
    }
  }
}

export const checked = new Checked();
