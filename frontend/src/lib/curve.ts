/** What was measured of a vector at some strengths, and what lies between them. Nothing is said beyond the ends. */

import type { Interval, Measurement, Sweep, VectorCard } from "../api/types";

export interface CurvePoint {
  strength: number;
  effect: Interval | null; // persona score: 0 is the base model, 1 as its prompt makes it
  coherence: Interval;
}

export interface Curve {
  source: "sweep" | "calibration";
  points: CurvePoint[];
  questions: number;
}

export const COHERENT = 60; // the gate of the calibration

export function fromSweep(sweep: Sweep): Curve {
  const points = sweep.points.map(({ strength, steered }) => point(strength, steered));
  return {
    source: "sweep",
    points: points.sort((a, b) => a.strength - b.strength),
    questions: sweep.questions,
  };
}

/** A calibration has measured strength 1 and no other. `safe`: as it steers with safety on. */
export function fromCard(card: VectorCard, safe: boolean): Curve | null {
  const found = (safe && card.calibration?.safe) || card.calibration;
  if (!found?.coherence) return null;
  const only = { strength: 1, effect: found.persona_score, coherence: found.coherence };
  return { source: "calibration", points: [only], questions: found.num_questions };
}

/** The measured values at a strength: between two points on the line from one to the other; null beyond them. */
export function at(
  curve: Curve | null,
  strength: number,
): { effect: number | null; coherence: number } | null {
  if (!curve) return null;
  const exact = curve.points.find((one) => Math.abs(one.strength - strength) < 1e-9);
  if (exact) return { effect: exact.effect?.mean ?? null, coherence: exact.coherence.mean };
  const after = curve.points.findIndex((one) => one.strength > strength);
  if (after <= 0) return null;
  const [low, high] = [curve.points[after - 1]!, curve.points[after]!];
  const part = (strength - low.strength) / (high.strength - low.strength);
  const between = (a: number, b: number) => a + part * (b - a);
  const effect = low.effect && high.effect ? between(low.effect.mean, high.effect.mean) : null;
  return { effect, coherence: between(low.coherence.mean, high.coherence.mean) };
}

export interface Band {
  from: number;
  to: number;
  coherent: boolean;
  /** Mean |effect| over the band, 0 to 1; null where the model does not take the persona from a prompt. */
  effect: number | null;
}

/** The stretches between measured points, cut where coherence passes the gate. */
export function bands(curve: Curve): Band[] {
  const found: Band[] = [];
  for (let i = 1; i < curve.points.length; i++) {
    const [low, high] = [curve.points[i - 1]!, curve.points[i]!];
    const cut = crossing(low, high);
    const ends = cut === null ? [low.strength, high.strength] : [low.strength, cut, high.strength];
    for (let j = 1; j < ends.length; j++) found.push(band(curve, ends[j - 1]!, ends[j]!));
  }
  return found;
}

function band(curve: Curve, from: number, to: number): Band {
  const values = at(curve, (from + to) / 2);
  const effect = values?.effect ?? null;
  return {
    from,
    to,
    coherent: (values?.coherence ?? 0) >= COHERENT,
    effect: effect === null ? null : Math.min(Math.abs(effect), 1),
  };
}

function crossing(low: CurvePoint, high: CurvePoint): number | null {
  const [a, b] = [low.coherence.mean - COHERENT, high.coherence.mean - COHERENT];
  if (a * b >= 0) return null;
  return low.strength + (a / (a - b)) * (high.strength - low.strength);
}

function point(strength: number, steered: Measurement): CurvePoint {
  return { strength, effect: steered.score, coherence: steered.coherence };
}
