import { beforeEach, expect, test, vi } from "vitest";

const stored = new Map<string, string>();
vi.stubGlobal("localStorage", {
  getItem: (key: string) => stored.get(key) ?? null,
  setItem: (key: string, value: string) => stored.set(key, value),
});
const { battery } = await import("./battery.svelte");

interface Asked {
  messages: { content: string }[];
  lanes: { label: string; steering: string | null }[];
  sampling: { seed: number };
}
const asked: Asked[] = [];

/** Answers as the server does: no lane where one of them names nobody. */
function serve(_: string, { body }: { body: string }): Response {
  const order = JSON.parse(body) as Asked;
  asked.push(order);
  if (order.lanes.some((lane) => lane.steering === "nobody:1"))
    return Response.json({ error: { message: "there is no nobody.", code: "not_found" } }, { status: 404 });
  const lanes = order.lanes.map((lane, i) => ({
    lane: i,
    content: `${lane.label}: ${order.messages[0]!.content}`,
  }));
  return Response.json({ lanes, seed: order.sampling.seed });
}

beforeEach(() => {
  asked.length = 0;
  vi.stubGlobal("fetch", vi.fn(serve));
  battery.prompts = "One?\nTwo?";
  battery.seed = 7;
  battery.recipes = ["base", "sage:1", "nobody:1"].map((label) => ({
    label,
    steering: label === "base" ? null : label,
  }));
});

const texts = () =>
  [0, 1].flatMap((p) =>
    [0, 1, 2].map((r) => {
      const cell = battery.cells.get(`${p}/${r}`);
      return cell?.state === "done" ? cell.answer.content : cell?.state === "failed" ? cell.message : null;
    }),
  );

test("a recipe that is refused fails alone, and the others are answered", async () => {
  await battery.run();
  const refused = "there is no nobody.";
  expect(texts()).toEqual(["base: One?", "sage:1: One?", refused, "base: Two?", "sage:1: Two?", refused]);
  expect(new Set(asked.map((order) => order.sampling.seed))).toEqual(new Set([7]));
});

test("asking the rest leaves alone what is answered", async () => {
  await battery.run();
  asked.length = 0;
  await battery.run("failed");
  expect(asked.every((order) => order.lanes.every((lane) => lane.steering === "nobody:1"))).toBe(true);
  expect(asked).toHaveLength(2);
});
