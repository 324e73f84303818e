import { expect, test } from "vitest";

import { newestLeaf, path, siblings } from "./tree";

const node = (id: string, parent_id: string | null) => [id, { id, parent_id }] as const;
const tree = new Map([
  node("1", null),
  node("2", "1"),
  node("3", "1"),
  node("4", "2"),
  node("5", "3"),
  node("6", "3"),
]);

test("a path goes from the root to its leaf", () => {
  expect(path(tree, "5").map(({ id }) => id)).toEqual(["1", "3", "5"]);
  expect(path(tree, null)).toEqual([]);
  expect(path(tree, "gone")).toEqual([]);
});

test("branches beside a message are in the order in which they were begun", () => {
  expect(siblings(tree, tree.get("3")!).map(({ id }) => id)).toEqual(["2", "3"]);
});

test("another branch is shown to its newest end", () => {
  expect([newestLeaf(tree, "1"), newestLeaf(tree, "2"), newestLeaf(tree, "5")]).toEqual(["6", "4", "5"]);
});
