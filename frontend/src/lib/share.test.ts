import { expect, test } from "vitest";

import { pack, unpack } from "./share";

test("what was packed comes back, whatever its letters", async () => {
  const recipe = { personas: { sage: 0.6 }, note: "grüß 🦜" };
  const text = await pack(recipe);
  expect(text).toMatch(/^[\w-]+$/);
  expect(await unpack(text)).toEqual(recipe);
});

test.each(["", "!!!", "abcd", "e30"])("%j is no recipe", async (text) => {
  expect(await unpack(text)).toBeNull();
});

test("a bomb is not unpacked", async () => {
  expect(await unpack(await pack("a".repeat(5_000_000)))).toBeNull();
});
