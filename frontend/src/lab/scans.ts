/** A scan of layers as rows and sentences. */

import type { Interval, Schemas } from "../api/types";
import type { Table } from "../charts/table";
import { COHERENT } from "../lib/curve";
import { count, layers, number } from "../lib/format";

type Scan = Schemas["LayerScan"];

/** One layer, steered alone. `effect` is the persona score where the scan has one, else the gain. */
export interface ScanRow {
  layer: number;
  effect: Interval;
  control: Interval;
  coherence: Interval;
  auroc: Interval;
  chosen: boolean;
  failure: string | null;
}

export function scanRows(scan: Scan): ScanRow[] {
  const value = (measured: Schemas["Measurement"]) => (scan.has_score && measured.score) || measured.gain;
  return scan.rows.map((row) => {
    const { coherence } = row.steered;
    const usable = coherence.mean >= COHERENT;
    return {
      layer: row.layer,
      effect: value(row.steered),
      control: value(row.control),
      coherence,
      auroc: row.auroc,
      chosen: row.chosen,
      failure: usable ? null : `coherence ${number(coherence.mean, 1)} is below ${COHERENT}`,
    };
  });
}

export function scanTable(scan: Scan): Table {
  return {
    columns: [
      "Layer",
      scan.has_score ? "Persona score" : "Gain, nats per token",
      "Low",
      "High",
      "Random direction",
      "Coherence",
      "AUROC",
      "Chosen",
      "Note",
    ],
    rows: scanRows(scan).map((row) => [
      row.layer,
      row.effect.mean,
      row.effect.low,
      row.effect.high,
      row.control.mean,
      row.coherence.mean,
      row.auroc.mean,
      row.chosen ? "yes" : "no",
      row.failure ?? "",
    ]),
  };
}

export function scanFinding(name: string, scan: Scan): string {
  const rows = scanRows(scan);
  const usable = rows.filter((row) => row.failure === null);
  const most = (all: readonly ScanRow[], of: (row: ScanRow) => number) =>
    all.reduce<ScanRow | null>((best, row) => (!best || of(row) > of(best) ? row : best), null);
  const steers = most(usable, (row) => row.effect.mean);
  const tells = most(rows, (row) => row.auroc.mean);
  const effect = scan.has_score ? "a persona score of" : "a gain in nats per token of";
  return [
    steers
      ? `Alone, layer ${steers.layer} steers ${name} best among those that stay coherent, with ${effect} ${number(steers.effect.mean)}.`
      : `No layer alone steers ${name} and stays coherent.`,
    tells
      ? `Layer ${tells.layer} tells its answers apart best, with an AUROC of ${number(tells.auroc.mean)}.`
      : "",
    scan.band.length ? `The calibration steers at ${layers(scan.band)} together.` : "It is not calibrated.",
    `Relative dose ${number(scan.dose)}, ${count(scan.questions, "question")} at each layer.`,
  ]
    .filter(Boolean)
    .join(" ");
}

/** The chosen layers as stretches of an axis. */
export function stretches(band: readonly number[]): [from: number, to: number][] {
  const found: [number, number][] = [];
  for (const layer of [...band].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && last[1] === layer - 0.5) last[1] = layer + 0.5;
    else found.push([layer - 0.5, layer + 0.5]);
  }
  return found;
}
