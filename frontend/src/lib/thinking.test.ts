import { expect, test } from "vitest";

import { splitThinking } from "./thinking";

test("thinking stands apart from the answer, also while it is still going on", () => {
  expect(splitThinking("<think>hm</think>\n\nYes.")).toEqual({ thinking: "hm", answer: "Yes." });
  expect(splitThinking("<think>hm")).toEqual({ thinking: "hm", answer: "" });
});

test("a text that only mentions the marks is an answer", () => {
  const text = "Write <think> for that.";
  expect(splitThinking(text)).toEqual({ thinking: null, answer: text });
});
