import { expect, it } from "vitest";

import { tally, type Vote } from "./votes";

function vote(labels: [string, string], winner: 0 | 1 | null): Vote {
  return { at: 0, question: "", labels, winner };
}

it("votes count for who won, on whichever side", () => {
  const votes = [
    vote(["base", "sage"], 1),
    vote(["sage", "base"], 0),
    vote(["sage", "base"], 1),
    vote(["sage", "base"], null),
    vote(["sage", "pirate"], 0),
  ];
  expect(tally(votes, ["base", "sage"])).toEqual({ labels: ["base", "sage"], wins: [1, 2], same: 1 });
  expect(tally([], ["a", "b"])).toEqual({ labels: ["a", "b"], wins: [0, 0], same: 0 });
});
