import { describe, expect, it } from "vitest";

import type { ProjectedText } from "../api/types";
import { joined, meanOf, readOf, shaded, valueOf, visible, type Pair } from "./readings";

const PLAIN = { moment: "after", scale: "z", threshold: 0 } as const;

function projected(): ProjectedText {
  const token = (i: number, text: string, message: number | null, value: number) => ({
    i,
    text,
    message,
    role: null,
    readings: { assistant: { "24": [value, value + 1] as [number, number] } },
  });
  return {
    tokens: [token(0, "<s>", null, -2000), token(1, "Hi", 0, 1), token(2, "Yes", 1, 3), token(3, ".", 1, 5)],
    axes: [{ name: "assistant", layer: 24, percentiles: { "50": 2 } }],
    steering: null,
  };
}

describe("readings", () => {
  it("leave out other messages, and the template", () => {
    const read = readOf(projected(), 1);
    expect(read.tokens).toEqual([
      { text: "Yes", place: 2 },
      { text: ".", place: 3 },
    ]);
    expect(read.axes.get("assistant")).toEqual({
      layer: 24,
      percentiles: { "50": 2 },
      pairs: [
        [3, 4],
        [5, 6],
      ],
    });
  });

  it("of several requests are kept together", () => {
    const first = readOf(projected(), 1);
    const other = { ...first, axes: new Map([["safety", first.axes.get("assistant")!]]) };
    expect([...joined(first, other).axes.keys()]).toEqual(["assistant", "safety"]);
  });

  it("have a mean before and after, and none where nothing was read", () => {
    expect(meanOf(readOf(projected(), 1).axes.get("assistant"))).toEqual([4, 5]);
    expect(meanOf({ layer: 3, pairs: [null], percentiles: null })).toBeNull();
    expect(meanOf(undefined)).toBeNull();
  });

  it("are taken before, after, or as what changed", () => {
    const pair: Pair = [2, 5];
    expect([
      valueOf(pair, "before"),
      valueOf(pair, "after"),
      valueOf(pair, "change"),
      valueOf(null, "after"),
    ]).toEqual([2, 5, 3, null]);
  });
});

describe("shades", () => {
  const pairs: (Pair | null)[] = [[0, 10], null, [0, 20], [0, 30]];

  it("stand for standard deviations of the text itself", () => {
    const found = shaded(pairs, PLAIN);
    expect(found).toMatchObject({ mean: 20, std: 10, count: 3, z: [-1, null, 0, 1] });
    expect(found.shades.map((one) => one.sign)).toEqual(["−", "", "", "+"]);
  });

  it("of raw values begin at nothing and end at the greatest", () => {
    const found = shaded(pairs, { ...PLAIN, scale: "raw" });
    expect(found.most).toBe(30);
    expect(found.shades.map((one) => one.line)).toEqual([1, 0, 2, 3]);
  });

  it("of two texts have one scale", () => {
    const other: Pair[] = [
      [0, 100],
      [0, 110],
      [0, 120],
    ];
    const found = shaded(pairs, PLAIN, [...pairs, ...other]);
    expect(found.shades.every((one) => one.sign !== "+")).toBe(true);
    expect(found).toMatchObject({ mean: 20, std: 10, most: 120 });
  });

  it("say nothing below the threshold, and nothing where all are alike", () => {
    expect(shaded(pairs, { ...PLAIN, threshold: 2 }).shades.every((one) => one.line === 0)).toBe(true);
    expect(
      shaded(
        [
          [1, 1],
          [1, 1],
        ],
        PLAIN,
      ).z,
    ).toEqual([null, null]);
    expect(shaded([[1, 1]], { ...PLAIN, moment: "change" }).shades[0]!.line).toBe(0);
  });
});

it("spaces and line ends can be seen", () => {
  expect(visible(" a\n")).toBe("␣a⏎");
  expect(visible("")).toBe("∅");
});
