/** One thing at a time that the server is asked for and that may take long: it can be stopped, and says why it failed. */

import { ApiError } from "../api/errors";

export class Attempt {
  busy = $state(false);
  error = $state.raw<ApiError | null>(null);
  private stopper: AbortController | null = null;

  /** Whether it came to its end. A new one stops the one before. */
  async run(work: (signal: AbortSignal) => Promise<unknown>): Promise<boolean> {
    this.stop();
    const stopper = (this.stopper = new AbortController());
    this.busy = true;
    this.error = null;
    try {
      await work(stopper.signal);
      return !stopper.signal.aborted;
    } catch (error) {
      if (stopper.signal.aborted) return false;
      if (!(error instanceof ApiError)) throw error;
      this.error = error;
      return false;
    } finally {
      if (this.stopper === stopper) this.busy = false;
    }
  }

  stop(): void {
    this.stopper?.abort();
    this.busy = false;
  }
}
