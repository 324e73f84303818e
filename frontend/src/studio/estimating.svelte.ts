/** What a job would take here, asked again a moment after what is asked for has changed. */

import { ask } from "../api/http";
import type { JobEstimate } from "../api/types";
import { Attempt } from "./attempt.svelte";

const QUIET = 500; // ms without a change

export class Estimating {
  value = $state.raw<JobEstimate | null>(null);
  readonly attempt = new Attempt();

  /** Asks; returns what calls it off. For use in `$effect`. */
  follow(path: string, order: unknown): () => void {
    this.value = null;
    this.attempt.error = null;
    const timer = setTimeout(
      () =>
        void this.attempt.run(async (signal) => {
          this.value = await ask<JobEstimate>("POST", path, {
            query: { dry_run: true },
            body: order,
            signal,
          });
        }),
      QUIET,
    );
    return () => {
      clearTimeout(timer);
      this.attempt.stop();
    };
  }
}
