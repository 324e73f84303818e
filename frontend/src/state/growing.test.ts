import { expect, it } from "vitest";

import type { Live } from "../api/types";
import { grown } from "./growing";

function frame(given: Partial<Live["LiveToken"]>): Live["LiveToken"] {
  return {
    v: 1,
    type: "token",
    generation: "gen_1",
    seq: 1,
    i: 0,
    token: null,
    text: "",
    ...given,
  } as Live["LiveToken"];
}

it("an answer grows by its tokens, whose readings come later", () => {
  const first = grown({ text: "", tokens: [] }, [frame({ i: 0, token: "Yes", text: "Yes", logprob: -0.5 })]);
  const second = grown(first, [
    frame({ i: 1, token: ".", text: ".", readings: [{ i: 0, axes: { safety: [1, 2] } }] }),
    frame({ i: 2, readings: [{ i: 9, axes: { safety: [3, 3] } }] }),
  ]);
  expect(second).toEqual({
    text: "Yes.",
    tokens: [
      { text: "Yes", logprob: -0.5, readings: { safety: [1, 2] } },
      { text: ".", logprob: null, readings: {} },
    ],
  });
  expect(first.tokens).toHaveLength(1);
});
