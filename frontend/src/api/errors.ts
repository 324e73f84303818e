/** What the server refused, in its own words; they are meant to be shown. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string = "",
    readonly param: string | null = null,
    readonly requestId: string | null = null,
  ) {
    super(message);
  }

  /** Whether asking again in a moment may help. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status === 503;
  }
}

/** The error in a body of the server, or one that says that there is none. */
export function errorOf(status: number, body: unknown, requestId: string | null = null): ApiError {
  const error = (body as { error?: Record<string, unknown> } | null)?.error;
  if (error && typeof error.message === "string") {
    const hint = typeof error.hint === "string" ? error.hint : "";
    const param = typeof error.param === "string" ? error.param : null;
    const told = typeof error.request_id === "string" ? error.request_id : requestId;
    // the server ends its message with the hint, for clients that show nothing else
    const message = error.message.endsWith(hint)
      ? error.message.slice(0, error.message.length - hint.length).trim()
      : error.message;
    return new ApiError(status, String(error.code ?? ""), message || hint, message ? hint : "", param, told);
  }
  return new ApiError(
    status,
    "unreadable",
    `The server answered ${status} with something unreadable.`,
    "",
    null,
    requestId,
  );
}

export function unreachable(): ApiError {
  return new ApiError(
    0,
    "unreachable",
    "The server cannot be reached.",
    "Is it still running? The page tries again by itself.",
  );
}
