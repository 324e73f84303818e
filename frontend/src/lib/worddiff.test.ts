import { expect, test } from "vitest";

import { wordDiff } from "./worddiff";

test("words of one side only are marked, and both texts come back whole", () => {
  const [left, right] = wordDiff("The sea is calm today.", "The stormy sea is wild today.")!;
  expect(left.filter((word) => !word.same).map((word) => word.text.trim())).toEqual(["calm"]);
  expect(right.filter((word) => !word.same).map((word) => word.text.trim())).toEqual(["stormy", "wild"]);
  expect(right.map((word) => word.text).join("")).toBe("The stormy sea is wild today.");
});

test("texts too long to compare are not compared", () => {
  expect(wordDiff("a ".repeat(1501), "a")).toBeNull();
});
