/** Colours of a reading on a direction: blue below, orange above, nothing at its middle; never by colour alone. */

export interface Shade {
  /** CSS background; its strength follows |z|. */
  background: string;
  /** Thickness of the underline in pixels, which says the same without colour. */
  line: number;
  sign: "+" | "−" | "";
}

export const FULL = 3; // |z| at which a shade is as strong as it gets

export function shade(z: number | null, threshold = 0): Shade {
  if (z === null || !Number.isFinite(z) || Math.abs(z) < threshold)
    return { background: "transparent", line: 0, sign: "" };
  const strength = Math.min(Math.abs(z) / FULL, 1);
  const colour = z > 0 ? "var(--more)" : "var(--less)";
  return {
    background: `color-mix(in srgb, ${colour} ${Math.round(42 * strength)}%, transparent)`,
    line: strength < 0.15 ? 0 : Math.ceil(3 * strength),
    sign: z > 0 ? "+" : z < 0 ? "−" : "",
  };
}

/** How readings of several tokens are put on one scale: by the reference of the axis, else by these tokens alone. */
export function standardise(
  values: readonly (number | null)[],
  reference: { mean: number; std: number } | null,
): { z: (number | null)[]; relative: boolean } {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  const { mean, std } = reference ?? spread(known);
  return {
    z: values.map((value) => (value === null || !(std > 0) ? null : (value - mean) / std)),
    relative: !reference,
  };
}

/** Of the values alone: their mean and their standard deviation. */
export function spread(values: readonly number[]): { mean: number; std: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
  const variance =
    values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(values.length - 1, 1);
  return { mean, std: Math.sqrt(variance) };
}
