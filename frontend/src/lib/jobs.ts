/** Jobs in words, for people. */

import type { Job, Schemas } from "../api/types";
import { duration, roughly } from "./format";

type JobProgress = Schemas["JobProgress"];

const PHASES: Record<string, string> = {
  "writing prompts": "Writing system prompts",
  "writing pairs": "Writing pairs of prompts",
  baseline: "The model's own answers",
  safe: "Answers to safe prompts",
  unsafe: "Answers to unsafe prompts",
  persona: "Answers in character",
  positive: "Answers with the trait",
  negative: "Answers without it",
  reference: "Answers to compare with",
  bands: "Which layers work",
  doses: "How strong it may be",
  confirm: "Confirming on new questions",
  sweep: "Answers at every strength",
  layers: "Answers at every layer",
  "held out": "Questions it was not made from",
  card: "Answers beside random directions",
  selectivity: "Other personas and traits",
};

/** A step of a job; one that this page does not know is shown by its own name. */
export function phaseLabel(phase: string): string {
  return PHASES[phase] ?? `${phase.charAt(0).toUpperCase()}${phase.slice(1)}`;
}

const AXES: Record<string, string> = {
  both: "the safety and assistant axes",
  safety: "the safety axis",
  assistant: "the assistant axis",
};

/** What a job does: "Make the trait optimistic". */
export function titleOf(job: Pick<Job, "type" | "subject">): string {
  const name = job.subject?.name.replaceAll("_", " ") ?? "";
  const titles: Record<string, string> = {
    "persona.create": `Make the persona ${name}`,
    "trait.create": `Make the trait ${name}`,
    "axes.extract": `Make ${AXES[name] ?? "the axes"}`,
    sweep: `Measure the strengths of ${name}`,
    layers: `Measure the layers of ${name}`,
    card: `Collect the evidence of ${name}`,
    similarity: "Compare the vectors",
  };
  return titles[job.type] ?? `${job.type} ${name}`.trim();
}

const STATES: Record<Job["status"], string> = {
  queued: "Waiting",
  running: "Running",
  succeeded: "Done",
  failed: "Failed",
  cancelled: "Paused",
  interrupted: "Interrupted",
};

export function stateOf(job: Job): string {
  if (job.cancel_requested && job.status === "running") return "Stopping";
  return STATES[job.status];
}

export function isUnfinished(job: Job): boolean {
  return job.status === "queued" || job.status === "running";
}

/** Whether it can go on from the answers it has. */
export function canGoOn(job: Job): boolean {
  return job.status === "failed" || job.status === "cancelled" || job.status === "interrupted";
}

/** "Step 3 of 7: answers in character, 12 of 40" */
export function standing(progress: JobProgress): string {
  const label = phaseLabel(progress.phase);
  const step = `Step ${progress.phase_index + 1} of ${progress.phases.length}`;
  return `${step}: ${label.charAt(0).toLowerCase()}${label.slice(1)}, ${progress.done} of ${progress.total}`;
}

/** "1.4 a second" and "2 min 10 s left", as far as they are measured. */
export function pace(progress: JobProgress): string[] {
  const found: string[] = [];
  if (progress.rate != null)
    found.push(
      progress.rate >= 1
        ? `${progress.rate.toFixed(1)} a second`
        : `${duration(1 / Math.max(progress.rate, 1e-6))} each`,
    );
  if (progress.eta_s != null) found.push(`about ${roughly(progress.eta_s)} left`);
  return found;
}

/** All that somebody who is to help needs to know, as text to be copied. */
export function reportOf(job: Job, log: readonly string[], version: string | undefined): string {
  const at = job.progress ? standing(job.progress) : "not begun";
  const lines = [
    `${titleOf(job)} (${job.type}, ${job.id})`,
    `State: ${job.status}, attempt ${job.attempts}; ${at}`,
    `Model: ${job.model ? `${job.model.id} ${job.model.fingerprint}` : "none"}`,
    `persona-steer ${version ?? "of unknown version"}`,
    ...(job.error ? [`Error: ${job.error.type}: ${job.error.message}`, `Hint: ${job.error.hint}`] : []),
    `Parameters: ${JSON.stringify(job.params)}`,
    ...(log.length ? ["Log:", ...log.map((line) => `  ${line}`)] : []),
  ];
  return lines.join("\n");
}
