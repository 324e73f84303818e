import { expect, test } from "vitest";

import type { Schemas } from "../api/types";
import { answerTable, gridTable, groups, measuredAt, promptsOf, single, type Cell, type Grid } from "./grid";

const answer = {
  content: "Yes.",
  finish_reason: "stop",
  steering: null,
  usage: { completion_tokens: 2 },
} as Schemas["LaneAnswer"];

test("no recipe is left alone, for the server compares two to four", () => {
  expect(groups(2)).toEqual([[0, 1]]);
  expect(groups(5).map((group) => group.length)).toEqual([3, 2]);
  for (let count = 2; count < 20; count++) {
    const all = groups(count);
    expect(all.flat()).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(all.every((group) => group.length >= 2 && group.length <= 4)).toBe(true);
  }
});

test("a prompt stands on each line that is not empty", () => {
  expect(promptsOf(" One?\n\nTwo?\n")).toEqual(["One?", "Two?"]);
});

test("only a recipe of one vector has measurements of its own", () => {
  expect(single({ label: "", steering: "sage:0.6", short: "sage:0.6" })).toEqual({
    name: "sage",
    strength: 0.6,
  });
  expect(single({ label: "", steering: "", short: "sage:0.6,formal:-0.3" })).toBeNull();
  expect(single({ label: "base model", steering: null })).toBeNull();
  expect(single({ label: "", steering: { preset: "warm" } as never, short: "sage:0.6" })).toBeNull();
});

test("a measurement is of exactly this strength, and never read off between two", () => {
  const exactly = (mean: number) => ({ mean, low: mean, high: mean });
  const point = (strength: number) => ({ strength, effect: null, coherence: exactly(80) });
  const curve = { source: "sweep" as const, questions: 8, points: [point(0), point(1)] };
  expect(measuredAt(curve, 1)?.coherence.mean).toBe(80);
  expect(measuredAt(curve, 0.5)).toBeNull();
  expect(measuredAt(null, 1)).toBeNull();
});

test("an export says what failed, and gives no number that was not measured", () => {
  const cells: Record<string, Cell> = {
    "0/0": { state: "done", answer },
    "0/1": { state: "failed", message: "there is no persona 'sag'." },
  };
  const grid: Grid = {
    prompts: ["Why?"],
    recipes: [
      { label: "base model", steering: null },
      { label: "sag:1", steering: "sag:1" },
    ],
    cell: (p, r) => cells[`${p}/${r}`],
    measured: () => null,
  };
  const [first, second] = answerTable(grid).rows;
  expect(first).toEqual(["Why?", "base model", "done", "Yes.", "stop", 2, null, null, null]);
  expect(second?.slice(2, 4)).toEqual(["failed", "failed: there is no persona 'sag'."]);
  expect(gridTable(grid).columns).toEqual(["Prompt", "base model", "sag:1 (coherence not measured)"]);
});
