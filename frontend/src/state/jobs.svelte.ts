/** Long work on the server: what there is, and what is heard of it while it goes on. */

import { ask } from "../api/http";
import type { Job, PublicJobEvent } from "../api/types";
import { server } from "./server.svelte";

const SHOWN = 30;

class Jobs {
  all = $state.raw<Job[]>([]);
  loaded = $state(false);

  readonly unfinished = $derived(
    this.all.filter((job) => job.status === "queued" || job.status === "running"),
  );

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

  async cancel(id: string): Promise<void> {
    this.put(await ask<Job>("POST", `/api/v1/jobs/${id}/cancel`, { body: {} }));
  }

  async retry(id: string): Promise<void> {
    this.put(await ask<Job>("POST", `/api/v1/jobs/${id}/retry`, { body: {} }));
  }

  put(job: Job): void {
    const there = this.all.some((one) => one.id === job.id);
    this.all = there ? this.all.map((one) => (one.id === job.id ? job : one)) : [job, ...this.all];
  }

  /** Progress is taken over as it is told; for any other news the job is read again. */
  private hear(event: PublicJobEvent): void {
    const job = this.find(event.job_id);
    if (event.type === "progress" && job) this.put({ ...job, progress: event.data });
    else if (event.type !== "sample" && event.type !== "log") void this.read(event.job_id);
  }

  private async read(id: string): Promise<void> {
    this.put(await ask<Job>("GET", `/api/v1/jobs/${id}`));
  }
}

export const jobs = new Jobs();
