import { expect, test } from "vitest";

import type { Schemas, VectorDetail } from "../api/types";
import { cautions } from "./cautions";

const around = (mean: number, half: number) => ({ mean, low: mean - half, high: mean + half });
const detail = { name: "sage", kept: 38, dropped: 2 } as VectorDetail;
const measured = {
  persona_score: around(0.7, 0.1),
  control_score: around(0, 0.1),
  coherence: around(80, 5),
  num_questions: 28,
} as Schemas["Measured"];

test("nothing is said against what measured well", () => {
  expect(cautions(detail, measured, [])).toEqual([]);
});

test("each caution has its number", () => {
  const poor = { ...measured, control_score: around(0.5, 0.2), coherence: around(62, 10), num_questions: 12 };
  const overlaps = [{ a: "monk", b: "sage", cosine: 0.91 }];
  const said = cautions({ ...detail, kept: 30, dropped: 10 }, poor, overlaps).join(" ");
  expect(said).toContain("the intervals overlap");
  expect(said).toContain("as low as 52");
  expect(said).toContain("12 questions only");
  expect(said).toContain("10 of 40 answers");
  expect(said).toContain("almost the same way as monk (cosine 0.91)");
});

test("an effect that could not be measured is said to have no scale", () => {
  expect(cautions(detail, { ...measured, persona_score: null }, [])).toEqual([
    "The model does not take it from a prompt, so its effect has no scale.",
  ]);
  expect(cautions(detail, null, [])).toEqual([]);
});
