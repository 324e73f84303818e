import { expect, test } from "vitest";

import { place } from "./place";

const room = { width: 1000, height: 800 };
const panel = { width: 200, height: 300 };
const anchor = (left: number, top: number) => ({ left, top, right: left + 40, bottom: top + 20 });

test("a panel lies below, at the edge it is wished", () => {
  expect(place(anchor(500, 100), panel, room, { align: "start", side: "below" })).toEqual({
    left: 500,
    top: 124,
  });
  expect(place(anchor(500, 100), panel, room, { align: "end", side: "below" })).toEqual({
    left: 340,
    top: 124,
  });
});

test("it goes to the other side where it does not fit", () => {
  expect(place(anchor(500, 700), panel, room, { align: "start", side: "below" }).top).toBe(396);
  expect(place(anchor(500, 50), panel, room, { align: "start", side: "above" }).top).toBe(74);
});

test("it never leaves the window", () => {
  expect(place(anchor(990, 700), panel, room, { align: "start", side: "below" }).left).toBe(792);
  expect(place(anchor(0, 0), { width: 5000, height: 5000 }, room, { align: "end", side: "above" })).toEqual({
    left: 8,
    top: 8,
  });
});
