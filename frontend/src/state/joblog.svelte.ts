/** What happened in one job: its notes, and the answers that came. Read once, then followed. */

import { ask } from "../api/http";
import type { PublicJobEvent, Schemas } from "../api/types";
import { server } from "./server.svelte";

export type Sample = Schemas["Sample"] & { seq: number };
export type Note = Schemas["JobNote"] & { seq: number };

const PAGE = 1000;
const KEPT = 40; // answers; a job can have thousands

export class JobLog {
  samples = $state.raw<Sample[]>([]); // the newest first
  notes = $state.raw<Note[]>([]);
  private seen = 0;
  private waiting: PublicJobEvent[] | null = null; // heard while the past is read

  constructor(readonly id: string) {}

  /** Follows the job; returns what ends that. For use in `$effect`. */
  follow(): () => void {
    const ends = [
      server.on("job", (event) => event.job_id === this.id && this.hear([event])),
      server.on("back", () => void this.read().catch(() => {})),
    ];
    void this.read().catch(() => {}); // what the job is, and why it cannot be read, is said by who shows it
    return () => ends.forEach((end) => end());
  }

  async read(): Promise<void> {
    this.waiting ??= [];
    try {
      for (let after = this.seen; ;) {
        const page = await ask<Schemas["JobLog"]>("GET", `/api/v1/jobs/${this.id}/log`, {
          query: { after, limit: PAGE },
        });
        this.take(page.data);
        after = page.data.at(-1)?.seq ?? after;
        if (!page.has_more) return;
      }
    } finally {
      const heard = this.waiting;
      this.waiting = null;
      this.take(heard);
    }
  }

  private hear(events: PublicJobEvent[]): void {
    if (this.waiting) this.waiting.push(...events);
    else this.take(events);
  }

  private take(events: readonly PublicJobEvent[]): void {
    const fresh = events.filter((event) => event.seq > this.seen);
    if (!fresh.length) return;
    this.seen = fresh.at(-1)!.seq;
    const samples = fresh.flatMap((one) => (one.type === "sample" ? [{ ...one.data, seq: one.seq }] : []));
    const notes = fresh.flatMap((one) => (one.type === "log" ? [{ ...one.data, seq: one.seq }] : []));
    if (samples.length) this.samples = distinct([...samples.reverse(), ...this.samples]).slice(0, KEPT);
    if (notes.length) this.notes = [...this.notes, ...notes];
  }
}

/** A job that goes on tells again of answers that it had. */
function distinct(samples: readonly Sample[]): Sample[] {
  const seen = new Set<string>();
  return samples.filter(({ phase, question, answer }) => {
    const key = JSON.stringify([phase, question, answer]);
    return !seen.has(key) && seen.add(key);
  });
}
