/** The charting library, loaded when the first chart is opened. */

import type * as Plot from "./marks";

export type PlotModule = typeof Plot;
/** One or more panels, the first on top. Elements of marks of the class `hit` stand for points that can be opened. */
export type Draw = (plot: PlotModule, width: number) => SVGSVGElement[];

let loading: Promise<PlotModule> | undefined;

export function loadPlot(): Promise<PlotModule> {
  loading ??= import("./marks").catch((error: unknown) => {
    loading = undefined; // so that it can be tried again
    throw error;
  });
  return loading;
}

/** How the lines of several vectors are told apart: by colour and by shape. */
export const SERIES = [
  { colour: "var(--more)", symbol: "circle" },
  { colour: "var(--less)", symbol: "square" },
  { colour: "var(--series-3)", symbol: "triangle" },
  { colour: "var(--series-4)", symbol: "diamond" },
] as const;

export type Series = (typeof SERIES)[number];

/** Behind a chart of the page and in a file alike. */
export const STYLE = { background: "transparent", overflow: "visible", fontFamily: "inherit" } as const;
