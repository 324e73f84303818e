import { expect, test, vi } from "vitest";

import type { PublicJobEvent } from "../api/types";

const pages: ((query: { after: number }) => Promise<{ data: PublicJobEvent[]; has_more: boolean }>)[] = [];
const asked: number[] = [];
vi.mock("../api/http", () => ({
  ask: (_: string, __: string, { query }: { query: { after: number } }) => {
    asked.push(query.after);
    return pages.shift()!(query);
  },
}));
const listeners = new Map<string, (event: PublicJobEvent) => void>();
vi.mock("./server.svelte", () => ({
  server: {
    on: (name: string, listener: (event: PublicJobEvent) => void) => {
      listeners.set(name, listener);
      return () => listeners.delete(name);
    },
  },
}));
const { JobLog } = await import("./joblog.svelte");

function sample(seq: number, answer: string, job_id = "job_1"): PublicJobEvent {
  return { seq, job_id, created_at: 0, type: "sample", data: { phase: "persona", question: "Who?", answer } };
}
function note(seq: number, message: string): PublicJobEvent {
  return { seq, job_id: "job_1", created_at: 0, type: "log", data: { level: "warning", message } };
}

test("the past and what is heard meanwhile come together once each, the newest answer first", async () => {
  pages.push(async () => {
    listeners.get("job")!(sample(3, "c"));
    return { data: [sample(1, "a"), sample(2, "b")], has_more: true };
  });
  pages.push(async () => ({ data: [sample(3, "c"), note(4, "few")], has_more: false }));
  const log = new JobLog("job_1");
  const end = log.follow();
  await vi.waitFor(() => expect(log.notes).toHaveLength(1));
  listeners.get("job")!(sample(5, "d"));
  listeners.get("job")!(sample(6, "of another job", "job_2"));
  expect(log.samples.map((one) => one.answer)).toEqual(["d", "c", "b", "a"]);
  expect(asked).toEqual([0, 2]);
  end();
  expect(listeners.size).toBe(0);
});

test("an answer that is told of again is shown once", async () => {
  pages.push(async () => ({ data: [sample(1, "a"), sample(2, "b"), sample(7, "a")], has_more: false }));
  const log = new JobLog("job_1");
  await log.read();
  expect(log.samples.map((one) => one.seq)).toEqual([7, 2]);
});
