/** Sweeps as rows and sentences: what a chart of them draws and a table of them says. */

import type { Interval, Schemas, Sweep } from "../api/types";
import type { Table } from "../charts/table";
import { COHERENT } from "../lib/curve";
import { count, number } from "../lib/format";

export interface ShownSweep {
  run: string;
  name: string;
  sweep: Sweep;
}

/** One measured strength. `effect` is the persona score where all shown sweeps have one, else the gain. */
export interface SweepRow {
  series: number;
  run: string;
  name: string;
  point: number; // its place in the sweep
  strength: number;
  effect: Interval;
  coherence: Interval;
  control: Interval;
  controlCoherence: Interval;
  /** Why it is of no use; null: it is. */
  failure: string | null;
}

export interface SweepRows {
  rows: SweepRow[];
  scored: boolean;
}

export function rowsOf(shown: readonly ShownSweep[]): SweepRows {
  const scored = shown.every(({ sweep }) => sweep.prompted.score !== null);
  const value = (measured: Schemas["Measurement"]) => (scored && measured.score) || measured.gain;
  const rows = shown.flatMap(({ run, name, sweep }, series) =>
    sweep.points.map((one, point) => ({
      series,
      run,
      name,
      point,
      strength: one.strength,
      effect: value(one.steered),
      coherence: one.steered.coherence,
      control: value(one.control),
      controlCoherence: one.control.coherence,
      failure: failureOf(one),
    })),
  );
  return { rows, scored };
}

/** Below the gate of the calibration the answers are of no use, whatever their score. */
export function failureOf({ steered, answers }: Schemas["SweepPoint"]): string | null {
  const empty = answers.filter((answer) => !answer.text).length;
  if (answers.length && empty === answers.length) return "all answers are empty";
  if (steered.coherence.mean >= COHERENT) return null;
  const also = empty ? `, ${empty} of ${answers.length} answers are empty` : "";
  return `coherence ${number(steered.coherence.mean, 1)} is below ${COHERENT}${also}`;
}

export function sweepTable({ rows, scored }: SweepRows): Table {
  const effect = scored ? "Persona score" : "Gain, nats per token";
  return {
    columns: [
      "Vector",
      "Strength",
      effect,
      "Low",
      "High",
      "Coherence",
      "Coherence low",
      "Coherence high",
      "Random directions",
      "Their coherence",
      "Note",
    ],
    rows: rows.map((row) => [
      row.name,
      row.strength,
      row.effect.mean,
      row.effect.low,
      row.effect.high,
      row.coherence.mean,
      row.coherence.low,
      row.coherence.high,
      row.control.mean,
      row.controlCoherence.mean,
      row.failure ?? "",
    ]),
  };
}

/** What a sweep shows, said only from its numbers. */
export function sweepFinding({ name, sweep }: ShownSweep): string {
  const usable = sweep.points.filter((point) => failureOf(point) === null && point.strength > 0);
  const parts: string[] = [];
  const range = sweep.coherent;
  if (!range) parts.push(`${name} is coherent at no measured strength`);
  else if (range[0] === range[1])
    parts.push(`of the measured strengths, ${name} is coherent only at ${number(range[0])}`);
  else parts.push(`${name} stays coherent from ${number(range[0])} to ${number(range[1])}`);
  const best = usable.reduce<Schemas["SweepPoint"] | null>(
    (found, one) => (!found || one.steered.gain.mean > found.steered.gain.mean ? one : found),
    null,
  );
  if (best) {
    const { score, gain } = best.steered;
    const said = score
      ? `a persona score of ${number(score.mean)}`
      : `a gain of ${number(gain.mean)} nats per token`;
    const random = score ? best.control.score : best.control.gain;
    const beside = random ? `; random directions reach ${number(random.mean)}` : "";
    parts.push(`the strongest coherent effect is at ${number(best.strength)}, with ${said}${beside}`);
  }
  const collapse = [sweep.collapse_below, sweep.collapse_above].filter(
    (at) => at !== null && at !== undefined,
  );
  if (collapse.length) parts.push(`it collapses at ${collapse.map((at) => number(at)).join(" and ")}`);
  return `${parts.join("; ")}. ${count(sweep.questions, "question")} at each strength.`;
}

export function sweepsFinding(shown: readonly ShownSweep[]): string {
  return shown.map(sweepFinding).join(" ");
}
