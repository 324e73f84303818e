import { afterEach, expect, test, vi } from "vitest";

import { ApiError } from "./errors";
import { address, ask, events } from "./http";

afterEach(() => vi.unstubAllGlobals());

function answering(body: string, status = 200): void {
  vi.stubGlobal("fetch", async () => new Response(body, { status, headers: { "x-request-id": "req_1" } }));
}

test("what the server refuses is thrown in its own words", async () => {
  answering(
    JSON.stringify({ error: { message: "unknown persona 'sgae'.", code: "not_found", hint: "sage?" } }),
    404,
  );
  const refused = await ask("GET", "/api/v1/personas/sgae").catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(ApiError);
  expect(refused).toMatchObject({ status: 404, code: "not_found", hint: "sage?", requestId: "req_1" });
});

test("a hint that ends the message too is not said twice", async () => {
  const error = { message: "too long. Send less.", code: "too_long", hint: "Send less." };
  answering(JSON.stringify({ error }), 400);
  await expect(ask("POST", "/x")).rejects.toMatchObject({ message: "too long.", hint: "Send less." });
});

test("a proxy's page in place of an answer is said to be unreadable", async () => {
  answering("<html>", 502);
  await expect(ask("GET", "/x")).rejects.toMatchObject({ code: "unreadable", status: 502 });
});

test("a server that is gone is unreachable, and that passes", async () => {
  vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("failed")));
  await expect(ask("GET", "/x")).rejects.toMatchObject({ code: "unreachable", isPassing: true });
});

test("a stream gives its events in order, with their names and numbers, and drops comments", async () => {
  answering(': ping\n\nevent: token\nid: 3\ndata: {"text":"a"}\n\ndata: [DONE]\n\n');
  const found = [];
  for await (const event of events("POST", "/x")) found.push(event);
  expect(found).toEqual([
    { id: "3", type: "token", data: { text: "a" } },
    { id: undefined, type: "message", data: "[DONE]" },
  ]);
});

test("nothing is put into an address for what is not given", () => {
  expect(address("/x", { a: 1, b: undefined, c: null, d: "é&" })).toBe("/x?a=1&d=%C3%A9%26");
});
