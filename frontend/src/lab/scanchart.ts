/** Effect, coherence and telling by layer, over one axis of layers. */

import { STYLE, type Draw, type PlotModule } from "../charts/plot";
import { COHERENT } from "../lib/curve";
import { interval } from "../lib/format";
import { stretches, type ScanRow } from "./scans";

interface Panel {
  of: "effect" | "coherence" | "auroc";
  label: string;
  height: number;
  baseline: number;
  domain?: [number, number];
}

export function scanChart(
  rows: readonly ScanRow[],
  given: { band: readonly number[]; scored: boolean },
): Draw {
  const panels: Panel[] = [
    {
      of: "effect",
      label: given.scored ? "Persona score" : "Gain, nats per token",
      height: 250,
      baseline: 0,
    },
    { of: "coherence", label: "Coherence", height: 180, baseline: COHERENT, domain: [0, 102] },
    { of: "auroc", label: "AUROC: how well it tells", height: 180, baseline: 0.5, domain: [0, 1.02] },
  ];
  return (plot, width) => panels.map((panel) => drawn(plot, width, rows, panel, given.band));
}

function drawn(
  plot: PlotModule,
  width: number,
  all: readonly ScanRow[],
  { of, label, height, baseline, domain }: Panel,
  band: readonly number[],
) {
  const rows = all as ScanRow[];
  const y = (row: ScanRow) => row[of].mean;
  const numbers = rows.map((row) => row.layer);
  return plot.plot({
    width,
    height,
    marginLeft: 48,
    marginRight: 16,
    marginBottom: 38,
    style: STYLE,
    x: {
      label: "Layer",
      domain: [Math.min(...numbers) - 0.7, Math.max(...numbers) + 0.7],
      ticks: whole(Math.min(...numbers), Math.max(...numbers), Math.floor(width / 36)),
      tickFormat: "d",
    },
    y: { label, nice: !domain, ...(domain && { domain }), ticks: 5 },
    marks: [
      plot.rect(stretches(band), {
        x1: (range: readonly number[]) => range[0],
        x2: (range: readonly number[]) => range[1],
        fill: "var(--good)",
        fillOpacity: 0.1,
      }),
      plot.ruleY([baseline], {
        stroke: "var(--line-strong)",
        ...(of !== "effect" && { strokeDasharray: "4 3" }),
      }),
      of === "effect" ? control(plot, rows) : null,
      plot.ruleX(rows, {
        x: "layer",
        y1: (row: ScanRow) => row[of].low,
        y2: (row: ScanRow) => row[of].high,
        stroke: "var(--more)",
        strokeOpacity: 0.55,
        strokeWidth: 2,
      }),
      plot.dot(
        rows.filter((row) => row.failure === null),
        { x: "layer", y, fill: "var(--more)", r: 4.5 },
      ),
      plot.dot(
        rows.filter((row) => row.failure !== null),
        { x: "layer", y, symbol: "times", stroke: "var(--more)", strokeWidth: 2.5, r: 5.5 },
      ),
      plot.tip(rows, plot.pointer({ x: "layer", y, title: said, fontSize: 12, maxRadius: 24 })),
      plot.dot(rows, {
        x: "layer",
        y,
        r: 12,
        fill: "transparent",
        className: "hit",
        ariaLabel: (row: ScanRow) => `${said(row).replaceAll("\n", ", ")}. Show the answers.`,
      }),
    ],
  }) as SVGSVGElement;
}

/** Whole numbers from the lowest layer on, at most about `most` of them. */
function whole(low: number, high: number, most: number): number[] {
  const step = Math.max(1, Math.ceil((high - low + 1) / Math.max(most, 2)));
  return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => low + i * step);
}

/** A random direction of the same norm, a little to the right so that both can be seen. */
function control(plot: PlotModule, rows: ScanRow[]) {
  const x = (row: ScanRow) => row.layer + 0.22;
  return [
    plot.ruleX(rows, {
      x,
      y1: (row: ScanRow) => row.control.low,
      y2: (row: ScanRow) => row.control.high,
      stroke: "var(--ink-3)",
      strokeOpacity: 0.5,
    }),
    plot.dot(rows, { x, y: (row: ScanRow) => row.control.mean, stroke: "var(--ink-3)", r: 3.5 }),
  ];
}

function said(row: ScanRow): string {
  return [
    `layer ${row.layer}${row.chosen ? ", chosen" : ""}`,
    `effect ${interval(row.effect)}`,
    `random direction ${interval(row.control)}`,
    `coherence ${interval(row.coherence, 0)}`,
    `AUROC ${interval(row.auroc)}`,
    ...(row.failure ? [`not usable: ${row.failure}`] : []),
  ].join("\n");
}
