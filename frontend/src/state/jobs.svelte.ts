/** Long work on the server: what there is, and what is heard of it while it goes on. */

import { ask } from "../api/http";
import type { Job, PublicJobEvent } from "../api/types";
import { isUnfinished } from "../lib/jobs";
import { server } from "./server.svelte";

const SHOWN = 30;

class Jobs {
  all = $state.raw<Job[]>([]);
  loaded = $state(false);

  readonly unfinished = $derived(this.all.filter(isUnfinished));
  readonly finished = $derived(this.all.filter((job) => !isUnfinished(job)));

  private ended = new Set<(job: Job) => void>();

  constructor() {
    server.on("job", (event) => this.hear(event));
    server.on("back", () => void this.refresh().catch(() => {}));
  }

  async refresh(): Promise<void> {
    this.all = (await ask<{ data: Job[] }>("GET", "/api/v1/jobs", { query: { limit: SHOWN } })).data;
    this.loaded = true;
  }

  find(id: string): Job | undefined {
    return this.all.find((job) => job.id === id);
  }

  /** Has `listener` told of jobs that end while the page is there; returns what ends that. */
  onEnd(listener: (job: Job) => void): () => void {
    this.ended.add(listener);
    return () => this.ended.delete(listener);
  }

  async begin(path: string, order: unknown): Promise<Job> {
    const job = await ask<Job>("POST", path, { body: order });
    this.put(job);
    return job;
  }

  async cancel(id: string): Promise<void> {
    this.put(await ask<Job>("POST", `/api/v1/jobs/${id}/cancel`, { body: {} }));
  }

  async retry(id: string): Promise<void> {
    this.put(await ask<Job>("POST", `/api/v1/jobs/${id}/retry`, { body: {} }));
  }

  async read(id: string): Promise<void> {
    this.put(await ask<Job>("GET", `/api/v1/jobs/${id}`));
  }

  put(job: Job): void {
    const before = this.find(job.id);
    this.all = before ? this.all.map((one) => (one.id === job.id ? job : one)) : [job, ...this.all];
    if (before && isUnfinished(before) && !isUnfinished(job))
      for (const listener of this.ended) listener(job);
  }

  /** Progress is taken over as it is told; for any other news the job is read again. */
  private hear(event: PublicJobEvent): void {
    const job = this.find(event.job_id);
    if (event.type === "progress" && job) this.put({ ...job, progress: event.data });
    else if (event.type !== "sample" && event.type !== "log") this.read(event.job_id).catch(() => {});
  }
}

export const jobs = new Jobs();
