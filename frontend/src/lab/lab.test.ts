import { expect, test } from "vitest";

import type { Schemas, Sweep } from "../api/types";
import { spread, thinned } from "./order";
import { counts, means, standing, tokenTable, type ReadText } from "./projected";
import { stretches } from "./scans";
import { cells, pairFinding, places, spaceFinding } from "./similar";
import { failureOf, rowsOf, sweepFinding, sweepTable } from "./sweeps";
import { parseTranscript } from "./transcript";

const exactly = (mean: number) => ({ mean, low: mean, high: mean });
const measured = (score: number | null, coherence: number, gain = score ?? 0) => ({
  score: score === null ? null : exactly(score),
  gain: exactly(gain),
  coherence: exactly(coherence),
});
const answer = (text: string) => ({ question: "?", system_prompt: "", text, gain: 0, coherence: 90 });

function sweep(points: [strength: number, score: number | null, coherence: number][]): Sweep {
  return {
    points: points.map(([strength, score, coherence]) => ({
      strength,
      steered: measured(score, coherence, strength),
      control: measured(score === null ? null : 0.1, 95),
      anti_steered: null,
      answers: [answer("Yes.")],
      control_answers: [],
    })),
    prompted: measured(points.some((point) => point[1] === null) ? null : 1, 97),
    coherent: [0, 1],
    collapse_below: null,
    collapse_above: 2,
    controls: 1,
    questions: 12,
  };
}
const whole = sweep([
  [0, 0, 100],
  [1, 0.7, 80],
  [2, 0.9, 15],
]);

test("a point below the gate of coherence has failed, and says why", () => {
  expect(failureOf(whole.points[1]!)).toBeNull();
  expect(failureOf(whole.points[2]!)).toBe("coherence 15 is below 60");
  expect(failureOf({ ...whole.points[2]!, answers: [answer("")] })).toBe("all answers are empty");
});

test("the finding praises no strength that is of no use", () => {
  const said = sweepFinding({ run: "r", name: "sage", sweep: whole });
  expect(said).toContain("stays coherent from 0 to 1");
  expect(said).toContain("strongest coherent effect is at 1, with a persona score of 0.7");
  expect(said).toContain("random directions reach 0.1");
  expect(said).toContain("collapses at 2");
});

test("sweeps are drawn by gain as soon as one of them has no persona score", () => {
  const unscored = sweep([
    [0, null, 100],
    [1, null, 80],
  ]);
  const both = rowsOf([
    { run: "a", name: "sage", sweep: whole },
    { run: "b", name: "puppy", sweep: unscored },
  ]);
  expect(both.scored).toBe(false);
  expect(both.rows.map((row) => row.effect.mean)).toEqual([0, 1, 2, 0, 1]);
  expect(sweepTable(both).columns).toContain("Gain, nats per token");
});

test("chosen layers that follow each other are one stretch", () => {
  expect(stretches([9, 3, 4, 5])).toEqual([
    [2.5, 5.5],
    [8.5, 9.5],
  ]);
});

test("strengths are spread evenly, and only where they ascend within their bounds", () => {
  expect(spread(-1, 1, 5)).toEqual([-1, -0.5, 0, 0.5, 1]);
  expect(spread(1, -1, 5)).toBeNull();
  expect(spread(-2.5, 1, 5)).toBeNull();
  expect(spread(0, 1, 1)).toBeNull();
});

const similarity: Schemas["Similarity"] = {
  names: ["sage", "wise", "puppy"],
  layers: [9, 10],
  pairs: [
    { first: "sage", second: "wise", cosine: 0.8, cosines: {}, overlap: 0.4 },
    { first: "sage", second: "puppy", cosine: -0.2, cosines: {}, overlap: 0.1 },
    { first: "wise", second: "puppy", cosine: 0.1, cosines: {}, overlap: 0.1 },
  ],
  chance_overlap: 0.1,
  space: null,
};

test("every pair stands in the map twice, and each vector with itself", () => {
  expect(cells(similarity)).toHaveLength(9);
  expect(pairFinding(similarity)).toBe(
    "sage and wise are most alike, with a cosine of 0.8; sage and puppy least, with −0.2. 3 vectors, the mean over layers 9–10.",
  );
  const two = { ...similarity, names: ["sage", "wise"], pairs: similarity.pairs.slice(0, 1) };
  expect(pairFinding(two)).toMatch(/^sage and wise have a cosine of 0\.8\. 2 vectors/);
});

test("the Assistant stands among the personas, beside the variance that is explained", () => {
  const space = {
    explained: [0.73, 0.27],
    positions: { sage: [1, 2], wise: [-1, 0], puppy: [0, -2] },
    assistant: [0.5, 0],
    assistant_rank: 2 / 3,
    axis_cosine: null,
  };
  expect(places(space).filter((place) => place.isAssistant)).toEqual([
    { name: "Assistant", x: 0.5, y: 0, isAssistant: true },
  ]);
  const said = spaceFinding(space);
  expect(said).toContain("73 % and 27 %");
  expect(said).toContain("the Assistant lies above 2 of them");
  expect(said).not.toContain("assistant axis");
});

test("a transcript is read by who speaks, over several lines", () => {
  expect(parseTranscript("User: Hi\nthere\nAI: Hello: you")).toEqual([
    { role: "user", content: "Hi\nthere" },
    { role: "assistant", content: "Hello: you" },
  ]);
  expect(parseTranscript('[{"role": "user", "content": "Hi"}]')).toEqual([{ role: "user", content: "Hi" }]);
});

test("what names no speaker, or lets one say nothing, is no transcript", () => {
  expect(parseTranscript("Once upon a time")).toBeNull();
  expect(parseTranscript("User:\nAssistant: Yes")).toBeNull();
  expect(parseTranscript("[1, 2]")).toBeNull();
});

const reading = (value: number) => ({ sage: { "5": [value, value + 1] as [number, number] } });
const read: ReadText = {
  messages: [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Ho" },
  ],
  found: {
    tokens: [
      { i: 0, text: "<|user|>", message: null, role: null, readings: reading(900) },
      { i: 1, text: "Hi", message: 0, role: "user", readings: reading(1) },
      { i: 2, text: "Ho", message: 1, role: "assistant", readings: reading(3) },
    ],
    axes: [{ name: "sage", layer: 5, percentiles: { "25": 2, "75": 5 } }],
    steering: null,
  },
};

test("tokens of the template count in no mean", () => {
  expect(read.found.tokens.map((token) => counts(read, token))).toEqual([false, true, true]);
  expect(means(read).map((mean) => mean.values[0])).toEqual([2, 4, 3]);
});

test("of a text without a template only the first token is left out", () => {
  const plain = { ...read, messages: null };
  expect(plain.found.tokens.map((token) => counts(plain, token))).toEqual([false, true, true]);
});

test("a mean is placed among the reference answers only where they are stored", () => {
  const axis = read.found.axes[0]!;
  expect(standing(1, axis)).toMatch(/^below the middle half/);
  expect(standing(3, axis)).toMatch(/^within/);
  expect(standing(3, { ...axis, percentiles: null })).toBeNull();
});

test("the table of tokens has readings after steering only where something steered", () => {
  expect(tokenTable(read).columns).toEqual(["Place", "Token", "Role", "sage at layer 5"]);
});

test("a sweep that is coherent at one strength is said to be so", () => {
  const narrow: Sweep = { ...whole, coherent: [0, 0] };
  expect(sweepFinding({ run: "r", name: "sage", sweep: narrow })).toContain("sage is coherent only at 0");
});

test("a scan of every fourth layer begins at the first", () => {
  expect(thinned([0, 1, 2, 3, 4, 5, 6, 7, 8], 4)).toEqual([0, 4, 8]);
});
