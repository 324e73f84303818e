import { expect, test } from "vitest";

import { alike } from "./alike";

const NAMES = ["sage", "pirate", "drill_sergeant", "optimistic"];

test.each([
  ["pirates", ["pirate"]],
  ["drill-sergeant", ["drill_sergeant"]],
  ["drillsergant", ["drill_sergeant"]],
  ["optimist", ["optimistic"]],
  ["sagx", ["sage"]],
  ["hermit", []],
  ["sa", []],
  ["pirate", []], // that is the same name, and refused
])("%s is nearly %j", (name, found) => {
  expect(alike(name, NAMES)).toEqual(found);
});
