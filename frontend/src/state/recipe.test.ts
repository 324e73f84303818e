import { expect, test } from "vitest";

import { Recipe } from "./recipe.svelte";

test("an empty recipe, and one whose parts are off or at zero, is the base model", () => {
  const recipe = new Recipe();
  expect(recipe.steering).toBeNull();
  recipe.add("sage", "persona", 0.6);
  recipe.set("sage", { on: false });
  expect(recipe.steering).toBeNull();
  recipe.set("sage", { on: true, strength: 0 });
  expect(recipe.steering).toBeNull();
});

test("what is set is what is asked, and nothing that is as it always is", () => {
  const recipe = new Recipe();
  recipe.add("sage", "persona", 0.6);
  recipe.add("formal", "trait", -0.3);
  expect(recipe.steering).toEqual({
    vectors: [
      { name: "sage", coefficient: 0.6 },
      { name: "formal", coefficient: -0.3 },
    ],
  });
  recipe.scale = 0.5;
  recipe.safety = false;
  expect(recipe.steering).toMatchObject({ scale: 0.5, safety: false });
});

test("strengths stay within the bounds, and on their grid", () => {
  const recipe = new Recipe();
  recipe.add("sage", "persona", 5);
  expect(recipe.parts[0]!.strength).toBe(2);
  recipe.set("sage", { strength: 0.1 + 0.2 });
  expect(recipe.parts[0]!.strength).toBe(0.3);
});

test("keys change the chosen part, and go around", () => {
  const recipe = new Recipe();
  recipe.add("a", "trait", 0);
  recipe.add("b", "trait", 0);
  recipe.choose(1);
  recipe.nudge(0.05);
  expect(recipe.parts.map((part) => part.strength)).toEqual([0.05, 0]);
});

test("a preset is taken as it is, and a change is known as one", () => {
  const recipe = new Recipe();
  recipe.take({ personas: { sage: 0.4 }, traits: { formal: -0.2 }, scale: 0.8 }, { preset: "warm" });
  expect([recipe.preset, recipe.changed, recipe.steering?.vectors?.length]).toEqual(["warm", false, 2]);
  recipe.set("sage", { strength: 0.5 });
  expect(recipe.changed).toBe(true);
});
