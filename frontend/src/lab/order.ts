/** What a measurement is ordered with. */

/** `points` equal steps from `from` to `to`; null where they are no strengths that ascend. */
export function spread(from: number, to: number, points: number): number[] | null {
  const sound = Number.isInteger(points) && points >= 2 && points <= 101;
  if (!sound || !(from < to) || Math.abs(from) > 2 || Math.abs(to) > 2) return null;
  return Array.from(
    { length: points },
    (_, i) => Number((from + (i * (to - from)) / (points - 1)).toFixed(4)) + 0,
  );
}

/** Every `step`th of some layers, from the first on. */
export function thinned(layers: readonly number[], step: number): number[] {
  return layers.filter((_, i) => i % step === 0);
}
