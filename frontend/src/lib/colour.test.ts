import { expect, test } from "vitest";

import { shade, standardise } from "./colour";

test("the sign, the line and the colour all say the same", () => {
  expect(shade(3)).toEqual({
    background: "color-mix(in srgb, var(--more) 42%, transparent)",
    line: 3,
    sign: "+",
  });
  expect(shade(-1.5)).toMatchObject({ line: 2, sign: "−" });
  expect(shade(9).background).toBe(shade(3).background);
});

test("what was not read, or lies below the threshold, is not coloured", () => {
  for (const nothing of [shade(null), shade(NaN), shade(0.4, 0.5)])
    expect(nothing.background).toBe("transparent");
});

test("a reference puts readings on its scale; without one they are compared with each other, and it says so", () => {
  expect(standardise([1, null, 5], { mean: 3, std: 2 })).toEqual({ z: [-1, null, 1], relative: false });
  const alone = standardise([1, 3, 5], null);
  expect([alone.relative, alone.z]).toEqual([true, [-1, 0, 1]]);
  expect(standardise([2, 2], null).z).toEqual([null, null]);
});
