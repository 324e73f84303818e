/** How vectors lie to each other, as rows and sentences. */

import type { Schemas } from "../api/types";
import type { Table } from "../charts/table";
import { count, layers, number } from "../lib/format";

type Similarity = Schemas["Similarity"];
type Space = Schemas["PersonaSpace"];

export interface CosineCell {
  a: string;
  b: string;
  cosine: number;
  overlap: number | null; // null: with itself
}

/** Every pair both ways, and each with itself. */
export function cells(found: Similarity): CosineCell[] {
  const own = found.names.map((name) => ({ a: name, b: name, cosine: 1, overlap: null }));
  const pairs = found.pairs.flatMap(({ first, second, cosine, overlap }) => [
    { a: first, b: second, cosine, overlap },
    { a: second, b: first, cosine, overlap },
  ]);
  return [...own, ...pairs];
}

export function pairTable(found: Similarity): Table {
  return {
    columns: ["First", "Second", "Cosine", "Overlap of the largest dimensions"],
    rows: found.pairs.map((pair) => [pair.first, pair.second, pair.cosine, pair.overlap]),
  };
}

export function pairFinding(found: Similarity): string {
  const ordered = [...found.pairs].sort((a, b) => b.cosine - a.cosine);
  const [most, least] = [ordered[0], ordered.at(-1)];
  const said = !most
    ? "There is nothing to compare"
    : most === least
      ? `${most.first} and ${most.second} have a cosine of ${number(most.cosine)}`
      : `${most.first} and ${most.second} are most alike, with a cosine of ${number(most.cosine)}`;
  const other =
    least && least !== most ? `; ${least.first} and ${least.second} least, with ${number(least.cosine)}` : "";
  const place = `${count(found.names.length, "vector")}, the mean over layers ${layers(found.layers)}.`;
  return `${said}${other}. ${place}`;
}

export interface Place {
  name: string;
  x: number;
  y: number;
  isAssistant: boolean;
}

/** The personas and the Assistant on the first two components. */
export function places(space: Space): Place[] {
  const place = (name: string, at: readonly number[], isAssistant: boolean): Place => ({
    name,
    x: at[0] ?? 0,
    y: at[1] ?? 0,
    isAssistant,
  });
  return [
    ...Object.entries(space.positions).map(([name, at]) => place(name, at, false)),
    place("Assistant", space.assistant, true),
  ];
}

export function spaceTable(space: Space): Table {
  const components = space.explained.map((_, i) => `Component ${i + 1}`);
  return {
    columns: ["Name", ...components],
    rows: [
      ...Object.entries(space.positions).map(([name, at]) => [name, ...at]),
      ["Assistant", ...space.assistant],
      ["Share of the variance", ...space.explained],
    ],
  };
}

export function percent(share: number): string {
  return `${number(100 * share, share < 0.1 ? 1 : 0)} %`;
}

export function spaceFinding(space: Space): string {
  const personas = Object.keys(space.positions).length;
  const shares = space.explained.slice(0, 2).map(percent);
  const below = Math.round(space.assistant_rank * personas);
  const cosine = space.axis_cosine;
  return [
    `The first two components hold ${shares.join(" and ")} of the variance among ${count(personas, "persona")}.`,
    `On the first one, the Assistant lies above ${below} of them.`,
    typeof cosine === "number" ? `Its cosine with the assistant axis is ${number(cosine)}.` : "",
  ]
    .filter(Boolean)
    .join(" ");
}
