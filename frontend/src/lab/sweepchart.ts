/** Effect above coherence over one axis of strengths. */

import type { SweepRow, SweepRows } from "./sweeps";
import { COHERENT } from "../lib/curve";
import { interval, number } from "../lib/format";
import { SERIES, STYLE, type Draw, type PlotModule } from "../charts/plot";

export const COLLAPSED = 20; // mean coherence of garbage, as the server's sweeps have it

interface Span {
  coherent: readonly [number, number] | null;
  collapses: readonly number[];
}

/** `only`: the one vector that is shown, of which the usable range and the collapse are marked. */
export function sweepChart(given: SweepRows, only: Span | null): Draw {
  return (plot, width) => [effectPanel(plot, width, given, only), coherencePanel(plot, width, given, only)];
}

function effectPanel(plot: PlotModule, width: number, { rows, scored }: SweepRows, only: Span | null) {
  return plot.plot({
    ...frame(width, rows, 280),
    y: { label: scored ? "Persona score" : "Gain, nats per token", nice: true, grid: false },
    marks: [
      usable(plot, only),
      plot.ruleY([0], { stroke: "var(--line-strong)" }),
      scored ? plot.ruleY([1], { stroke: "var(--line-strong)", strokeDasharray: "2 4" }) : null,
      scored
        ? plot.text([{ y: 1 }], {
            y: "y",
            text: () => "as its system prompt",
            frameAnchor: "right",
            dx: -4,
            dy: -7,
            textAnchor: "end",
            fill: "var(--ink-3)",
          })
        : null,
      ...lines(plot, rows, "effect", "control"),
      collapse(plot, only, true),
      named(plot, rows),
      ...points(plot, rows, "effect"),
    ],
  }) as SVGSVGElement;
}

function coherencePanel(plot: PlotModule, width: number, { rows }: SweepRows, only: Span | null) {
  return plot.plot({
    ...frame(width, rows, 210),
    y: { label: "Coherence", domain: [0, 102], ticks: [0, 20, 40, 60, 80, 100] },
    marks: [
      usable(plot, only),
      plot.rect([0], { y1: 0, y2: COLLAPSED, fill: "var(--bad)", fillOpacity: 0.09 }),
      plot.text([0], { y: COLLAPSED / 2, ...note, text: () => "collapsed" }),
      plot.ruleY([COHERENT], { stroke: "var(--bad)", strokeDasharray: "4 3" }),
      plot.text([0], {
        ...note,
        y: COHERENT,
        frameAnchor: "bottom",
        textAnchor: "middle",
        dx: 0,
        dy: 8,
        lineAnchor: "top",
        text: () => `not usable below ${COHERENT}`,
      }),
      plot.ruleY([0], { stroke: "var(--line-strong)" }),
      ...lines(plot, rows, "coherence", "controlCoherence"),
      collapse(plot, only, false),
      ...points(plot, rows, "coherence"),
    ],
  }) as SVGSVGElement;
}

const note = {
  frameAnchor: "left",
  textAnchor: "start",
  dx: 4,
  fill: "var(--ink-3)",
  stroke: "var(--surface)",
} as const;

function frame(width: number, rows: readonly SweepRow[], height: number) {
  const strengths = rows.map((row) => row.strength);
  const [low, high] = [Math.min(...strengths), Math.max(...strengths)];
  const space = 0.03 * (high - low);
  return {
    width,
    height,
    marginLeft: 48,
    marginRight: 16,
    marginBottom: 38,
    style: STYLE,
    x: {
      label: "Strength",
      domain: [low - space, high + space],
      ticks: [...new Set(strengths)].length * 36 <= width ? [...new Set(strengths)] : Math.floor(width / 60),
      tickFormat: (x: number) => number(x),
    },
  };
}

function usable(plot: PlotModule, only: Span | null) {
  return only?.coherent
    ? plot.rect([only.coherent], {
        x1: (range: readonly number[]) => range[0],
        x2: (range: readonly number[]) => range[1],
        fill: "var(--good)",
        fillOpacity: 0.08,
      })
    : null;
}

function collapse(plot: PlotModule, only: Span | null, named: boolean) {
  const at = only?.collapses ?? [];
  return [
    plot.ruleX(at, { stroke: "var(--bad)", strokeWidth: 1.5 }),
    named
      ? plot.text(at, {
          x: (x: number) => x,
          text: () => "collapse",
          frameAnchor: "top",
          dy: -8,
          fill: "var(--bad)",
        })
      : null,
  ];
}

/** Whose line it is, where there are several; the page says so above, a file has nothing but this. */
function named(plot: PlotModule, rows: readonly SweepRow[]) {
  const lasts = SERIES.flatMap((_, i) => rows.findLast((row) => row.series === i) ?? []);
  if (lasts.length < 2) return null;
  const top = Math.max(...lasts.map((one) => one.effect.mean));
  const label = (shown: SweepRow[], dy: number) =>
    plot.text(shown, {
      x: "strength",
      y: (row: SweepRow) => row.effect.mean,
      text: "name",
      fill: (row: SweepRow) => SERIES[row.series]!.colour,
      stroke: "var(--surface)",
      textAnchor: "end",
      dx: 12,
      dy,
    });
  return [
    label(
      lasts.filter((row) => row.effect.mean === top),
      -14,
    ),
    label(
      lasts.filter((row) => row.effect.mean !== top),
      16,
    ),
  ];
}

type Measured = "effect" | "coherence";

function lines(
  plot: PlotModule,
  rows: readonly SweepRow[],
  own: Measured,
  control: "control" | "controlCoherence",
) {
  const series = SERIES.map((one, i) => ({ ...one, rows: rows.filter((row) => row.series === i) }));
  return series
    .filter((one) => one.rows.length)
    .flatMap(({ colour, rows }) => [
      band(plot, rows, control, "var(--ink-3)", 0.08),
      plot.line(rows, {
        x: "strength",
        y: (row: SweepRow) => row[control].mean,
        stroke: "var(--ink-3)",
        strokeDasharray: "5 4",
        strokeWidth: 1.25,
      }),
      band(plot, rows, own, colour, 0.16),
      plot.line(rows, { x: "strength", y: (row: SweepRow) => row[own].mean, stroke: colour, strokeWidth: 2 }),
    ]);
}

function band(
  plot: PlotModule,
  rows: readonly SweepRow[],
  of: "effect" | "coherence" | "control" | "controlCoherence",
  fill: string,
  fillOpacity: number,
) {
  return plot.areaY(rows as SweepRow[], {
    x: "strength",
    y1: (row: SweepRow) => row[of].low,
    y2: (row: SweepRow) => row[of].high,
    fill,
    fillOpacity,
  });
}

/** Signs of the vector, crosses where the answers are of no use, and above them what can be pressed. */
function points(plot: PlotModule, rows: readonly SweepRow[], of: Measured) {
  const y = (row: SweepRow) => row[of].mean;
  const signs = SERIES.map(({ colour, symbol }, i) => {
    const good = rows.filter((row) => row.series === i && row.failure === null);
    const bad = rows.filter((row) => row.series === i && row.failure !== null);
    return [
      plot.dot(good, { x: "strength", y, symbol, fill: colour, r: 4.5 }),
      plot.dot(bad, { x: "strength", y, symbol: "times", stroke: colour, strokeWidth: 2.5, r: 5.5 }),
    ];
  });
  return [
    ...signs.flat(),
    plot.tip(
      rows as SweepRow[],
      plot.pointer({ x: "strength", y, title: said, fontSize: 12, maxRadius: 24 }),
    ),
    plot.dot(rows as SweepRow[], {
      x: "strength",
      y,
      r: 12,
      fill: "transparent",
      className: "hit",
      ariaLabel: (row: SweepRow) => `${said(row).replaceAll("\n", ", ")}. Show the answers.`,
    }),
  ];
}

function said(row: SweepRow): string {
  return [
    `${row.name} at ${number(row.strength)}`,
    `effect ${interval(row.effect)}`,
    `coherence ${interval(row.coherence, 0)}`,
    `random directions ${interval(row.control)}`,
    ...(row.failure ? [`not usable: ${row.failure}`] : []),
  ].join("\n");
}
