import { expect, test } from "vitest";

import type { VectorCard } from "../api/types";
import { at, bands, fromCard, type Curve } from "./curve";

const exactly = (mean: number) => ({ mean, low: mean, high: mean });
const curve: Curve = {
  source: "sweep",
  questions: 8,
  points: [
    { strength: -1, effect: exactly(-0.2), coherence: exactly(80) },
    { strength: 0, effect: exactly(0), coherence: exactly(100) },
    { strength: 1, effect: exactly(0.8), coherence: exactly(80) },
    { strength: 2, effect: exactly(0.4), coherence: exactly(40) },
  ],
};

test("between two measured points lies the line, beyond the ends nothing", () => {
  expect(at(curve, 0.5)).toEqual({ effect: 0.4, coherence: 90 });
  expect(at(curve, 1)).toEqual({ effect: 0.8, coherence: 80 });
  expect([at(curve, -1.2), at(curve, 2.1), at(null, 0)]).toEqual([null, null, null]);
});

test("a band ends where coherence passes its gate", () => {
  expect(bands(curve).map(({ from, to, coherent }) => [from, to, coherent])).toEqual([
    [-1, 0, true],
    [0, 1, true],
    [1, 1.5, true],
    [1.5, 2, false],
  ]);
});

test("an effect that was not measurable is none", () => {
  const silent = { ...curve, points: curve.points.map((one) => ({ ...one, effect: null })) };
  expect(at(silent, 0.5)?.effect).toBeNull();
  expect(bands(silent).every((band) => band.effect === null)).toBe(true);
});

test("a calibration says something of strength 1 alone, and a card without one nothing", () => {
  const card = {
    calibration: { persona_score: exactly(0.7), coherence: exactly(75), num_questions: 28, safe: null },
  };
  const found = fromCard(card as unknown as VectorCard, true)!;
  expect([at(found, 1)?.coherence, at(found, 0.9), bands(found)]).toEqual([75, null, []]);
  expect(fromCard({ calibration: null } as unknown as VectorCard, true)).toBeNull();
});
