/** The socket on which answers are written and steered.

A connection has one generation at a time. One that breaks off is taken up again where it was: the server keeps it for
a while. */

import { ApiError, unreachable } from "./errors";
import type { Live as Frames, SteeringRequest } from "./types";

type Generate = Omit<Frames["Generate"], "v" | "id" | "type">;

export interface Hearing {
  queued?: (frame: Frames["Queued"]) => void;
  start?: (frame: Frames["LiveStarted"]) => void;
  token?: (frame: Frames["LiveToken"]) => void;
  steered?: (frame: Frames["SteerAck"]) => void;
  done?: (frame: Frames["LiveDone"]) => void;
  /** The answer of one lane broke off; others go on. */
  failed?: (lane: number, error: ApiError, frame: Frames["LiveError"]) => void;
  /** Nothing more is heard: all lanes have ended, or (with `error`) it cannot go on. */
  end: (error: ApiError | null) => void;
}

interface Generation {
  hearing: Hearing;
  name: string | null; // the server's, once it has begun
  seen: number;
  open: Set<number>; // lanes that still write
}

const TRIES = [0.3, 1, 2, 4, 8]; // seconds before each attempt; together less than the server keeps a generation
const PING = 60_000; // milliseconds; the server closes a connection that is silent for minutes

export class Live {
  private socket: WebSocket | null = null;
  private generation: Generation | null = null;
  private tries = 0;

  constructor(private address: () => string = liveAddress) {}

  get busy(): boolean {
    return this.generation !== null;
  }

  /** Asks for answers. One generation at a time: the one before is to have ended. */
  generate(asked: Generate, hearing: Hearing): void {
    const open = new Set((asked.lanes ?? [{}]).map((_, lane) => lane));
    this.generation = { hearing, name: null, seen: 0, open };
    void this.send({ v: 1, type: "generate", ...asked });
  }

  /** Another recipe from the next token on; null: the base model. Without a lane, for all. */
  steer(steering: SteeringRequest | null, lane?: number): void {
    if (this.generation) void this.send({ v: 1, type: "steer", lane, steering });
  }

  stop(lane?: number): void {
    if (this.generation) void this.send({ v: 1, type: "stop", lane });
  }

  private async send(frame: Frames["LiveRequest"]): Promise<void> {
    const socket = this.socket ?? this.open();
    if (socket.readyState === WebSocket.CONNECTING) {
      await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
    }
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
  }

  private open(): WebSocket {
    const socket = new WebSocket(this.address());
    const ping = setInterval(
      () => socket.readyState === WebSocket.OPEN && socket.send('{"v":1,"type":"ping"}'),
      PING,
    );
    socket.addEventListener("message", (event) =>
      this.hear(JSON.parse(String(event.data)) as Frames["LiveReply"]),
    );
    socket.addEventListener("open", () => (this.tries = 0));
    socket.addEventListener("close", () => {
      clearInterval(ping);
      this.broken(socket);
    });
    return (this.socket = socket);
  }

  private broken(socket: WebSocket): void {
    if (this.socket !== socket) return;
    this.socket = null;
    const { generation } = this;
    if (!generation) return;
    const wait = TRIES[this.tries++];
    if (generation.name === null || wait === undefined) return this.end(unreachable());
    setTimeout(() => this.resume(generation), 1000 * wait);
  }

  private resume(generation: Generation): void {
    if (this.generation !== generation) return;
    void this.send({ v: 1, type: "resume", generation: generation.name!, after: generation.seen });
  }

  private hear(frame: Frames["LiveReply"]): void {
    const { generation } = this;
    if (!generation || frame.type === "hello" || frame.type === "pong") return;
    if (frame.seq) generation.seen = frame.seq;
    const { hearing } = generation;
    if (frame.type === "start") {
      generation.name = frame.generation;
      hearing.start?.(frame);
    } else if (frame.type === "queued") hearing.queued?.(frame);
    else if (frame.type === "token") hearing.token?.(frame);
    else if (frame.type === "steer_ack") hearing.steered?.(frame);
    else if (frame.type === "done") {
      hearing.done?.(frame);
      this.close(generation, frame.lane);
    } else this.hearError(generation, frame);
  }

  private hearError(generation: Generation, frame: Frames["LiveError"]): void {
    const { message, code, hint, param, request_id } = frame.error;
    const error = new ApiError(400, code, message, hint ?? "", param ?? null, request_id ?? null);
    const lane = frame.lane ?? null;
    if (lane !== null) {
      generation.hearing.failed?.(lane, error, frame);
      this.close(generation, lane, error);
    } else if (generation.name === null || frame.seq || code === "generation_not_found") this.end(error);
  }

  private close(generation: Generation, lane: number, error: ApiError | null = null): void {
    generation.open.delete(lane);
    if (!generation.open.size) this.end(error);
  }

  private end(error: ApiError | null): void {
    const hearing = this.generation?.hearing;
    this.generation = null;
    hearing?.end(error);
  }
}

function liveAddress(): string {
  return new URL("./api/v1/live", location.href).href.replace(/^http/, "ws").replace(/#.*/, "");
}
