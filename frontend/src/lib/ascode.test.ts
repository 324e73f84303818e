import { expect, test } from "vitest";

import { codeOf, pythonOf, quoted, weightsOf } from "./ascode";

const steering = {
  vectors: [
    { name: "sage", coefficient: 0.6 },
    { name: "formal", coefficient: -0.3 },
  ],
  scale: 0.5,
};
const given = { origin: "http://127.0.0.1:8642", safe: false };

test("the overall strength is part of each weight where a language knows no scale", () => {
  expect(weightsOf(steering)).toEqual({ sage: 0.3, formal: -0.15 });
  expect(codeOf("command", steering, given)).toContain("--blend 'sage:0.3,formal:-0.15' --no-safety");
  expect(codeOf("python", steering, given)).toContain('blend = {"sage": 0.3, "formal": -0.15}');
});

test("requests carry the recipe as it stands", () => {
  const body = codeOf("curl", steering, given).match(/-d '(.*)'$/)![1]!;
  expect((JSON.parse(body) as { steering: unknown }).steering).toEqual(steering);
  expect(codeOf("openai", null, given)).not.toContain("steering");
});

test("a shell sees one word, whatever is in it", () => {
  expect(quoted("it's $HOME")).toBe(`'it'\\''s $HOME'`);
});

test("truth and nothing are Python's own", () => {
  expect(pythonOf({ a: [true, null, "x"] })).toBe('{"a": [True, None, "x"]}');
});
