import { expect, test } from "vitest";

import {
  emptyPersona,
  emptyTrait,
  missing,
  personaOf,
  personaOrder,
  traitName,
  traitOf,
  traitOrder,
} from "./order";

test("an archetype as it ships is asked for by name", () => {
  const draft = {
    ...emptyPersona(),
    way: "archetype" as const,
    archetype: "pirate",
    name: "Pirate",
    untouched: true,
  };
  expect(personaOrder({ ...draft, prompts: ["You are a pirate."] })).toEqual({
    name: "pirate",
    effort: "standard",
    archetype: "pirate",
  });
});

test("an archetype whose prompts were edited is made of the prompts", () => {
  const draft = { ...emptyPersona(), way: "archetype" as const, archetype: "pirate", name: "pirate" };
  expect(personaOrder({ ...draft, description: "A sailor.", prompts: [" You sail. ", ""] })).toEqual({
    name: "pirate",
    effort: "standard",
    system_prompts: ["You sail."],
    description: "A sailor.",
  });
});

test("a description goes along with the prompts that were written for it", () => {
  const draft = {
    ...emptyPersona(),
    name: "Grumpy Wizard!",
    description: "grumpy ",
    prompts: ["You grumble."],
  };
  expect(personaOrder({ ...draft, effort: "quick", questions: ["Who?", " "] })).toEqual({
    name: "grumpy_wizard",
    effort: "quick",
    system_prompts: ["You grumble."],
    description: "grumpy",
    questions: ["Who?"],
  });
});

test("a trait is asked for by its words as long as nothing was edited", () => {
  const pairs = [{ positive: "Be warm.", negative: "Be cold." }];
  const draft = { ...emptyTrait(), word: "warm", pairs };
  expect(traitOrder(draft)).toEqual({ word: "warm", effort: "standard" });
  expect(traitOrder({ ...draft, opposite: "cold", untouched: false })).toEqual({
    word: "warm",
    opposite: "cold",
    effort: "standard",
    pairs,
  });
});

test("a trait has the name of its word unless it is given another", () => {
  expect(traitName({ ...emptyTrait(), word: "Warm hearted" })).toBe("warm_hearted");
  expect(traitOrder({ ...emptyTrait(), word: "warm", name: "Warm 2" })).toMatchObject({ name: "warm_2" });
});

test("half a pair is not sent", () => {
  const pairs = [{ positive: "Be warm.", negative: " " }];
  expect(traitOrder({ ...emptyTrait(), word: "warm", untouched: false, pairs }).pairs).toEqual([]);
});

test("it is said what is missing", () => {
  expect(missing(["", " "], null)).toBe("At least one prompt is needed.");
  expect(missing(["You sail."], ["a", "b", "c"])).toBe("At least 4 questions are needed.");
  expect(missing(["You sail."], null)).toBe("");
});

test("what was asked for before can be changed and asked for again", () => {
  const asked = {
    name: "wizard",
    description: "grumpy",
    system_prompts: ["You grumble."],
    effort: "quick" as const,
  };
  expect(personaOrder(personaOf(asked, "wizard_2"))).toEqual({ ...asked, name: "wizard_2" });
  const pairs = [{ positive: "Be warm.", negative: "Be cold." }];
  const trait = {
    word: "warm",
    opposite: "cold",
    pairs,
    effort: "thorough" as const,
    questions: ["a", "b", "c", "d"],
  };
  expect(traitOrder(traitOf(trait, "warm"))).toEqual(trait);
});
