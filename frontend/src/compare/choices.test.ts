import { describe, expect, it } from "vitest";

import type { Preset, SteeringRequest } from "../api/types";
import { labelOf, missing, shortOf, steeringOf, valueOf, worded, type Choice } from "./choices";

const RECIPE = { vectors: [{ name: "sage", coefficient: 0.6 }] } as SteeringRequest;
const KEPT = { vectors: [{ name: "pirate", coefficient: 1 }] } as SteeringRequest;

describe("a lane", () => {
  it.each<[Choice, SteeringRequest | null]>([
    [{ kind: "base" }, null],
    [{ kind: "recipe" }, RECIPE],
    [{ kind: "kept", steering: KEPT, short: "pirate +1" }, KEPT],
    [{ kind: "preset", name: "warm" }, { preset: "warm" } as SteeringRequest],
    [{ kind: "prompt", system: "Be wise." }, null],
  ])("%o is steered by %o", (choice, steering) => {
    expect(steeringOf(choice, RECIPE)).toEqual(steering);
  });

  it("is called after what steers it", () => {
    expect(labelOf({ kind: "recipe" }, "sage +0.6")).toBe("sage +0.6");
    expect(labelOf({ kind: "recipe" }, "")).toBe("Recipe (empty)");
    expect(valueOf({ kind: "preset", name: "warm" })).toBe("preset:warm");
  });

  it("cannot be asked without its prompt or its preset", () => {
    expect(missing({ kind: "prompt", system: " " }, [])).not.toBe("");
    expect(missing({ kind: "preset", name: "warm" }, [])).toContain("warm");
    expect(missing({ kind: "preset", name: "warm" }, [{ name: "warm" } as Preset])).toBe("");
    expect(missing({ kind: "base" }, [])).toBe("");
  });
});

it("recipes are told in words", () => {
  expect(
    shortOf(
      [
        { name: "sage", strength: 0.6 },
        { name: "formal", strength: -0.3 },
      ],
      1,
    ),
  ).toBe("sage +0.6 · formal −0.3");
  expect(worded("sage:0.6,formal:-0.3")).toBe("sage 0.6 · formal -0.3");
});
