import { expect, test, vi } from "vitest";

vi.stubGlobal("location", { hash: "" });
vi.stubGlobal("addEventListener", () => {});
const { formatRoute, parseRoute } = await import("./router.svelte");

test("an address comes back as it was written", () => {
  const address = formatRoute("lab", ["sweep", "a/b"], { name: "sage & co" });
  const route = parseRoute(address);
  expect([route.screen, route.parts, route.query.get("name")]).toEqual([
    "lab",
    ["sweep", "a/b"],
    "sage & co",
  ]);
});

test.each(["", "#", "#/", "#/nowhere", "#/%zz"])("%j is the chat", (hash) => {
  expect(parseRoute(hash).screen).toBe("chat");
});
