/** What was read of a text's tokens along a direction, and how that becomes a shade. */

import type { ProjectedText } from "../api/types";
import { FULL, shade, spread, type Shade } from "../lib/colour";

export type Pair = readonly [before: number, after: number];
export type Moment = "after" | "before" | "change";
export type Scale = "z" | "raw";

/** A token of the text; `place` counts all that the model read. Null: not known, as while it is written. */
export interface Token {
  text: string;
  place: number | null;
}

/** The readings along one axis, one for each token of a text. Null where there is none (yet). */
export interface AxisReading {
  layer: number | null; // null: not told
  pairs: readonly (Pair | null)[];
  /** Of the answers that the axis was made from, each by its mean; null where none are stored. */
  percentiles: Readonly<Record<string, number>> | null;
}

/** One message of a conversation, read. */
export interface Read {
  tokens: readonly Token[];
  axes: ReadonlyMap<string, AxisReading>;
}

/** Which shade the tokens have, and the numbers that a legend needs. */
export interface Shaded {
  values: (number | null)[];
  z: (number | null)[]; // in standard deviations of the scale
  shades: Shade[];
  mean: number; // of this text alone, as the deviation
  std: number;
  most: number; // the greatest magnitude
  count: number;
}

/** The tokens of one message, and none of the chat template: those lie far outside of everything else. */
export function readOf(found: ProjectedText, message: number): Read {
  const own = found.tokens.filter((token) => token.message === message);
  const axes = new Map<string, AxisReading>();
  for (const { name, layer, percentiles } of found.axes) {
    const pairs = own.map((token) => token.readings[name]?.[String(layer)] ?? null);
    axes.set(name, { layer, percentiles: percentiles ?? null, pairs });
  }
  return { tokens: own.map(({ text, i }) => ({ text, place: i })), axes };
}

/** The same text along more axes. */
export function joined(a: Read | undefined, b: Read): Read {
  return a ? { tokens: b.tokens, axes: new Map([...a.axes, ...b.axes]) } : b;
}

export function valueOf(pair: Pair | null, moment: Moment): number | null {
  if (!pair) return null;
  return moment === "change" ? pair[1] - pair[0] : pair[moment === "before" ? 0 : 1];
}

/** How strongly each token is coloured.

Raw values are measured from nothing, to the greatest there is; so is what the interventions changed. With `among`,
the scale is that of several texts together, so that their colours can be compared. */
export function shaded(
  pairs: readonly (Pair | null)[],
  given: { moment: Moment; scale: Scale; threshold: number },
  among: readonly (Pair | null)[] = pairs,
): Shaded {
  const values = pairs.map((pair) => valueOf(pair, given.moment));
  const own = values.filter(isKnown);
  const all = among === pairs ? own : among.map((pair) => valueOf(pair, given.moment)).filter(isKnown);
  const scale = spread(all);
  const most = all.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
  const z = values.map((value) =>
    value === null || !(scale.std > 0) ? null : (value - scale.mean) / scale.std,
  );
  const isRaw = given.scale === "raw" || given.moment === "change";
  const levels = isRaw
    ? values.map((value) => (value === null || !(most > 0) ? null : (FULL * value) / most))
    : z;
  const shades = levels.map((level) => shade(level, given.threshold));
  return { values, z, shades, ...spread(own), most, count: own.length };
}

function isKnown(value: number | null): value is number {
  return value !== null && Number.isFinite(value);
}

/** The mean before and after the interventions; null where nothing was read. */
export function meanOf(reading: AxisReading | undefined): Pair | null {
  const known = reading?.pairs.filter((pair): pair is Pair => pair !== null) ?? [];
  if (!known.length) return null;
  const mean = (side: 0 | 1) => known.reduce((sum, pair) => sum + pair[side], 0) / known.length;
  return [mean(0), mean(1)];
}

/** A token as it can be seen: spaces and line ends have signs of their own. */
export function visible(text: string): string {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "∅";
}

/** What came along an axis with tokens while they were written. */
export function pairsOf(
  tokens: readonly { readings: Readonly<Record<string, Pair>> }[],
  axis: string,
): (Pair | null)[] {
  return tokens.map((token) => token.readings[axis] ?? null);
}
