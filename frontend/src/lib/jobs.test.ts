import { expect, test } from "vitest";

import type { Job } from "../api/types";
import { canGoOn, pace, phaseLabel, reportOf, standing, stateOf, titleOf } from "./jobs";

const progress = {
  phase: "persona",
  phase_index: 1,
  phases: ["baseline", "persona", "bands"],
  done: 12,
  total: 40,
};
const job = {
  id: "job_1",
  type: "trait.create",
  status: "failed",
  subject: { kind: "trait", name: "warm_hearted" },
  model: { id: "tiny", fingerprint: "abc" },
  params: { word: "warm" },
  progress: { ...progress, rate: null, eta_s: null },
  error: { type: "QualityError", message: "Too few answers.", hint: "Ask more." },
  attempts: 2,
} as unknown as Job;

test("a job is called by what it does", () => {
  expect(titleOf(job)).toBe("Make the trait warm hearted");
  expect(titleOf({ type: "axes.extract", subject: { kind: "axis", name: "both" } })).toBe(
    "Make the safety and assistant axes",
  );
  expect(titleOf({ type: "dream", subject: null })).toBe("dream");
});

test("a step that is not known keeps its name", () => {
  expect(phaseLabel("bands")).toBe("Which layers work");
  expect(phaseLabel("dreaming")).toBe("Dreaming");
});

test("the standing counts the steps and what is done of this one", () => {
  expect(standing(job.progress!)).toBe("Step 2 of 3: answers in character, 12 of 40");
});

test("a pace is told only where it was measured", () => {
  expect(pace(job.progress!)).toEqual([]);
  expect(pace({ ...progress, rate: 2, eta_s: 130 })).toEqual(["2.0 a second", "about 2 min 10 s left"]);
  expect(pace({ ...progress, rate: 0.25, eta_s: null })).toEqual(["4 s each"]);
});

test("what was stopped, failed or was interrupted can go on", () => {
  const can = (status: Job["status"]) => canGoOn({ ...job, status });
  expect(["failed", "cancelled", "interrupted"].map((one) => can(one as Job["status"]))).toEqual([
    true,
    true,
    true,
  ]);
  expect(["queued", "running", "succeeded"].some((one) => can(one as Job["status"]))).toBe(false);
});

test("a job that is asked to stop says so until it has", () => {
  expect(stateOf({ ...job, status: "running", cancel_requested: true })).toBe("Stopping");
  expect(stateOf({ ...job, status: "cancelled", cancel_requested: true })).toBe("Paused");
});

test("a report has the error, the parameters and the log", () => {
  const text = reportOf(job, ["warning: few answers"], "1.2");
  expect(text).toContain("Error: QualityError: Too few answers.\nHint: Ask more.");
  expect(text).toContain('Parameters: {"word":"warm"}');
  expect(text.endsWith("Log:\n  warning: few answers")).toBe(true);
});
