import { expect, test } from "vitest";

import { bytes, duration, interval, layers, number, roughly, signed, when } from "./format";

test("numbers keep what was measured and drop zeros behind it", () => {
  expect([number(0.6), number(-0.25), number(-0.001), number(10), number(100, 0)]).toEqual([
    "0.6",
    "−0.25",
    "0",
    "10",
    "100",
  ]);
  expect([signed(0.6), signed(-0.6), signed(0)]).toEqual(["+0.6", "−0.6", "0"]);
  expect(interval({ mean: 0.68, low: -0.05, high: 0.871 })).toBe("0.68 [−0.05, 0.87]");
});

test("layers that follow each other are one range", () => {
  expect(layers([14, 15, 16, 20, 3])).toBe("3, 14–16, 20");
});

test("times and sizes are said as people say them", () => {
  expect([duration(8), duration(2.34), duration(130), duration(3900), duration(3600)]).toEqual([
    "8 s",
    "2.3 s",
    "2 min 10 s",
    "1 h 5 min",
    "1 h",
  ]);
  expect([bytes(999), bytes(92_000_000), bytes(1_400_000_000)]).toEqual(["999 B", "92 MB", "1.4 GB"]);
});

test("yesterday is by the calendar, not by hours", () => {
  const now = new Date(2026, 10, 21, 0, 30);
  expect(when(new Date(2026, 10, 20, 23, 50).getTime() / 1000, now)).toMatch(/^yesterday /);
  expect(when(new Date(2026, 10, 21, 0, 10).getTime() / 1000, now)).not.toMatch(/yesterday/);
});

test("what is only guessed is said without figures that nobody knows", () => {
  expect([7.6, 59.7, 251, 1207, 5000].map(roughly)).toEqual([
    "8 s",
    "1 min",
    "4 min 10 s",
    "20 min",
    "1 h 23 min",
  ]);
});
