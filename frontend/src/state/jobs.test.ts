import { beforeEach, expect, test, vi } from "vitest";

import type { Job, PublicJobEvent } from "../api/types";

let stored: Job;
const asked: string[] = [];
vi.mock("../api/http", () => ({
  ask: async (method: string, path: string) => {
    asked.push(`${method} ${path}`);
    return path === "/api/v1/jobs" ? { data: [stored] } : stored;
  },
}));
let hear: (event: PublicJobEvent) => void;
vi.mock("./server.svelte", () => ({
  server: { on: (name: string, listener: typeof hear) => name === "job" && (hear = listener) },
}));
const { jobs } = await import("./jobs.svelte");

const progress = {
  phase: "persona",
  phase_index: 0,
  phases: ["persona"],
  done: 1,
  total: 4,
  rate: null,
  eta_s: null,
};
const running = { id: "job_1", type: "sweep", status: "running", progress } as unknown as Job;

beforeEach(async () => {
  stored = running;
  await jobs.refresh();
  asked.length = 0;
});

test("progress is taken from the news, and nothing is asked for it", () => {
  hear({ seq: 2, job_id: "job_1", created_at: 0, type: "progress", data: { ...progress, done: 3 } });
  expect(jobs.find("job_1")?.progress?.done).toBe(3);
  expect(asked).toEqual([]);
});

test("the end of a job is told once, with its result", async () => {
  const ended: (string | undefined)[] = [];
  const off = jobs.onEnd((job) => ended.push(job.error?.message));
  stored = { ...running, status: "failed", error: { type: "QualityError", message: "Too few.", hint: "" } };
  hear({ seq: 3, job_id: "job_1", created_at: 0, type: "state", data: { status: "failed" } });
  hear({ seq: 4, job_id: "job_1", created_at: 0, type: "error", data: stored.error! });
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  expect(ended).toEqual(["Too few."]);
  expect([jobs.unfinished.length, jobs.finished.length]).toEqual([0, 1]);
  off();
});

test("a job that somebody else has begun appears", async () => {
  stored = { ...running, id: "job_2" };
  hear({ seq: 5, job_id: "job_2", created_at: 0, type: "state", data: { status: "queued" } });
  await vi.waitFor(() => expect(jobs.find("job_2")).toBeDefined());
  expect(jobs.all.map((job) => job.id)).toEqual(["job_2", "job_1"]);
});
