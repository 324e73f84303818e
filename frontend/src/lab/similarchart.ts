/** A map of cosines, and the personas on their first two principal components. */

import { STYLE, type Draw } from "../charts/plot";
import { number } from "../lib/format";
import { percent, type CosineCell, type Place } from "./similar";

const MOST_NAMES = 40; // beyond, they cover each other; the pointer tells them, and the table
const READABLE = 46; // pixels that a cell needs for its number

export function cosineChart(names: readonly string[], all: readonly CosineCell[]): Draw {
  return (plot, width) => {
    const longest = Math.max(...names.map((name) => name.length));
    const margin = Math.min(150, 7 * longest + 12);
    const size = Math.min(64, Math.max(14, (width - margin - 12) / names.length));
    const shown = size * names.length;
    const below = 0.75 * margin + 12; // names stand at a slant there
    const others = all.filter((cell) => cell.overlap !== null) as CosineCell[];
    return [
      plot.plot({
        width: margin + shown + 12,
        height: shown + below + 6,
        marginLeft: margin,
        marginTop: 6,
        marginBottom: below,
        marginRight: 12,
        style: STYLE,
        x: { domain: names, label: null, tickRotate: -45 },
        y: { domain: names, label: null },
        marks: [
          plot.cell(all as CosineCell[], { x: "a", y: "b", fill: shade, stroke: "var(--surface)", rx: 3 }),
          size >= READABLE
            ? plot.text(others, {
                x: "a",
                y: "b",
                text: (cell: CosineCell) => number(cell.cosine),
                fill: "var(--ink)",
                fontSize: 12,
              })
            : null,
          plot.tip(others, plot.pointer({ x: "a", y: "b", title: said, fontSize: 12 })),
        ],
      }) as SVGSVGElement,
    ];
  };
}

/** Orange for alike, blue for opposed; a vector with itself says nothing. */
function shade({ cosine, overlap }: CosineCell): string {
  if (overlap === null) return "var(--surface-2)";
  const colour = cosine > 0 ? "var(--more)" : "var(--less)";
  return `color-mix(in srgb, ${colour} ${Math.round(65 * Math.min(Math.abs(cosine), 1))}%, var(--surface))`;
}

function said({ a, b, cosine, overlap }: CosineCell): string {
  const shared = overlap === null ? "" : `\n${percent(overlap)} of the largest dimensions are shared`;
  return `${a} and ${b}\ncosine ${number(cosine, 3)}${shared}`;
}

export function spaceChart(all: readonly Place[], explained: readonly number[]): Draw {
  return (plot, width) => {
    const personas = all.filter((one) => !one.isAssistant);
    const assistant = all.filter((one) => one.isAssistant);
    const axis = (i: number) => `Component ${i + 1}, ${percent(explained[i] ?? 0)} of the variance`;
    const label = { x: "x", y: "y", text: "name", dy: -13, lineAnchor: "bottom", fontSize: 12 } as const;
    const wide = Math.min(width, 720);
    const named = personas.length <= MOST_NAMES ? personas : [];
    const tip = (one: Place) => `${one.name}\n${number(one.x, 3)}, ${number(one.y, 3)}`;
    return [
      plot.plot({
        width: wide,
        height: Math.min(440, Math.max(300, wide * 0.66)),
        marginLeft: 56,
        marginRight: 40,
        marginBottom: 40,
        style: STYLE,
        x: { label: axis(0), nice: true, inset: 48 },
        y: { label: axis(1), nice: true, inset: 24 },
        marks: [
          plot.ruleX([0], { stroke: "var(--line)" }),
          plot.ruleY([0], { stroke: "var(--line)" }),
          plot.dot(personas, { x: "x", y: "y", r: 5.5, fill: "var(--more)" }),
          plot.dot(assistant, {
            x: "x",
            y: "y",
            r: 8,
            symbol: "star",
            fill: "var(--accent)",
            stroke: "var(--surface)",
          }),
          plot.text(named, { ...label, fill: "var(--ink)", stroke: "var(--surface)" }),
          plot.text(assistant, {
            ...label,
            fill: "var(--accent)",
            stroke: "var(--surface)",
            fontWeight: 650,
          }),
          plot.tip(all as Place[], plot.pointer({ x: "x", y: "y", title: tip, fontSize: 12, maxRadius: 24 })),
        ],
      }) as SVGSVGElement,
    ];
  };
}
