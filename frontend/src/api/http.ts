/** Requests to the server that served this page. No other address is ever asked. */

import { createParser } from "eventsource-parser";

import { ApiError, errorOf, unreachable } from "./errors";

export type Query = Record<string, string | number | boolean | null | undefined>;

export interface Options {
  query?: Query;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** Sent even if the page is left meanwhile. */
  keepalive?: boolean;
}

/** The answer as JSON. Throws ApiError, and whatever `signal` aborts with. */
export async function ask<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await send(method, path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const { body, headers = {}, signal, keepalive } = options;
  let response: Response;
  try {
    response = await fetch(address(path, options.query), {
      method,
      signal,
      keepalive,
      headers:
        body === undefined || body instanceof Blob
          ? headers
          : { "content-type": "application/json", ...headers },
      body: body === undefined || body instanceof Blob ? (body as Blob | undefined) : JSON.stringify(body),
    });
  } catch (error) {
    throw signal?.aborted ? error : unreachable();
  }
  if (response.ok) return response;
  const text = await response.text();
  throw errorOf(response.status, parsed(text), response.headers.get("x-request-id"));
}

export interface ServerEvent {
  id: string | undefined;
  type: string;
  data: unknown;
}

/** The events of a stream, until it ends. Throws ApiError where it cannot be opened or breaks off. */
export async function* events(
  method: string,
  path: string,
  options: Options = {},
): AsyncGenerator<ServerEvent> {
  const response = await send(method, path, {
    ...options,
    headers: { accept: "text/event-stream", ...options.headers },
  });
  const found: ServerEvent[] = [];
  const parser = createParser({
    onEvent: ({ id, event, data }) =>
      found.push({ id, type: event ?? "message", data: parsed(data) ?? data }),
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      parser.feed(value);
      yield* found.splice(0);
    }
  } catch (error) {
    throw options.signal?.aborted || error instanceof ApiError ? error : unreachable();
  } finally {
    await reader.cancel().catch(() => {});
  }
}

export function address(path: string, query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const search = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return `${path}${search && `?${search}`}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
