/** A text that was read along directions: its means, and its tokens as a table. */

import type { PastMessage, ProjectedText } from "../api/types";
import type { Table } from "../charts/table";
import { number } from "../lib/format";
import { visible, type Pair } from "../inspect/readings";

export interface ReadText {
  /** Null: it was read as it stands, without a template. */
  messages: PastMessage[] | null;
  found: ProjectedText;
}

type Token = ProjectedText["tokens"][number];
type Axis = ProjectedText["axes"][number];

/** Tokens of the chat template, and the first one that a model reads, lie far outside of all others. */
export function counts({ messages }: ReadText, token: Token): boolean {
  return messages ? token.message !== null : token.i > 0;
}

/** The readings along an axis, one for each token; null for those that do not count. */
export function pairsOf(read: ReadText, axis: Axis): (Pair | null)[] {
  return read.found.tokens.map((token) => (counts(read, token) ? pairOf(token, axis) : null));
}

function pairOf(token: Token, { name, layer }: Axis): Pair | null {
  return token.readings[name]?.[String(layer)] ?? null;
}

export interface Mean {
  /** Who speaks; null: the whole text. */
  message: number | null;
  role: string;
  tokens: number;
  /** After steering, one for each axis; null: nothing was read there. */
  values: (number | null)[];
}

export function means(read: ReadText): Mean[] {
  const { tokens, axes } = read.found;
  const of = (message: number | null, role: string): Mean => {
    const own = tokens.filter(
      (token) => counts(read, token) && (message === null || token.message === message),
    );
    const values = axes.map((axis) => {
      const known = own.flatMap((token) => pairOf(token, axis)?.[1] ?? []);
      return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
    });
    return { message, role, tokens: own.length, values };
  };
  return [...(read.messages ?? []).map(({ role }, i) => of(i, role)), of(null, "all")];
}

/** Where a mean stands among the reference answers of its axis; null where none are stored. */
export function standing(value: number | null, { percentiles }: Axis): string | null {
  const [low, high] = [percentiles?.["25"], percentiles?.["75"]];
  if (value === null || low === undefined || high === undefined) return null;
  const range = `the middle half of its reference answers, ${number(low)} to ${number(high)}`;
  if (value < low) return `below ${range}`;
  return value > high ? `above ${range}` : `within ${range}`;
}

export function tokenTable(read: ReadText): Table {
  const { tokens, axes } = read.found;
  const names = axes.flatMap(({ name, layer }) => [`${name} at layer ${layer}`, `${name}, after steering`]);
  const isSteered = read.found.steering !== null;
  return {
    columns: ["Place", "Token", "Role", ...names.filter((_, i) => isSteered || i % 2 === 0)],
    rows: tokens.map((token) => [
      token.i,
      visible(token.text),
      token.role ?? (read.messages ? "template" : "text"),
      ...axes.flatMap((axis) => {
        const pair = pairOf(token, axis);
        return isSteered ? [pair?.[0] ?? null, pair?.[1] ?? null] : [pair?.[0] ?? null];
      }),
    ]),
  };
}
