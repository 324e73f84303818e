import { expect, test } from "vitest";

import { slug } from "./slug";

test.each([
  ["Grumpy Wizard!", "grumpy_wizard"],
  ["  Élan  vital ", "elan_vital"],
  ["../../etc/passwd", "etc_passwd"],
  ["日本", ""],
  ["a".repeat(80), "a".repeat(64)],
])("%j becomes %j", (text, name) => {
  expect(slug(text)).toBe(name);
  expect(slug(text)).toMatch(/^([a-z0-9][a-z0-9_-]{0,63})?$/);
});
