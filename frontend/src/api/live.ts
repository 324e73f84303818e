/** The socket on which answers are written and steered: one for the page, opened when it is first needed.

A generation that the connection breaks off is taken up again where it was; the server keeps it for a minute. */

import { ApiError, unreachable } from "./errors";
import type {
  ClientFrame,
  DoneFrame,
  GenerateFrame,
  ServerFrame,
  StartFrame,
  SteerAckFrame,
  SteeringRequest,
  TokenFrame,
} from "./types";

export interface Hearing {
  queued?: (position: number) => void;
  start?: (frame: StartFrame) => void;
  token?: (frame: TokenFrame) => void;
  steered?: (frame: SteerAckFrame) => void;
  done?: (frame: DoneFrame) => void;
  /** It cannot go on; nothing more is heard. */
  error: (error: ApiError, lane: string | null) => void;
}

interface Generation {
  id: string;
  hearing: Hearing;
  name: string | null; // the server's, once it has begun
  seen: number;
  open: Set<string>; // lanes that still write
}

const TRIES = [0.3, 1, 2, 4, 8, 15]; // seconds; together less than the server keeps a generation

export class Live {
  private socket: WebSocket | null = null;
  private running = new Map<string, Generation>();
  private tries = 0;
  private next = 1;

  /** Asks for an answer. Returns its handle. */
  generate(frame: Omit<GenerateFrame, "v" | "type" | "id">, hearing: Hearing): LiveAnswer {
    const id = `g${this.next++}`;
    const open = new Set(frame.lanes.map((lane) => lane.lane));
    this.running.set(id, { id, hearing, name: null, seen: 0, open });
    void this.send({ ...frame, v: 1, type: "generate", id }, id);
    return new LiveAnswer(id, (given) => void this.send({ ...given, v: 1 } as ClientFrame, id));
  }

  private async send(frame: ClientFrame, id: string): Promise<void> {
    try {
      const socket = await this.connected();
      socket.send(JSON.stringify(frame));
    } catch {
      if (frame.type === "generate") this.fail(id, unreachable());
    }
  }

  private connected(): Promise<WebSocket> {
    const socket = this.socket ?? this.open();
    if (socket.readyState === WebSocket.OPEN) return Promise.resolve(socket);
    return new Promise((resolve, reject) => {
      socket.addEventListener("open", () => resolve(socket), { once: true });
      socket.addEventListener("close", () => reject(unreachable()), { once: true });
    });
  }

  private open(): WebSocket {
    const socket = new WebSocket(new URL("./api/v1/live", location.href).href.replace(/^http/, "ws"));
    socket.addEventListener("message", (event) => this.hear(JSON.parse(String(event.data)) as ServerFrame));
    socket.addEventListener("open", () => (this.tries = 0));
    socket.addEventListener("close", () => this.broken(socket));
    this.socket = socket;
    return socket;
  }

  private broken(socket: WebSocket): void {
    if (this.socket !== socket) return;
    this.socket = null;
    for (const { id, name } of [...this.running.values()]) if (name === null) this.fail(id, unreachable());
    if (!this.running.size) return;
    if (this.tries >= TRIES.length) {
      for (const id of [...this.running.keys()]) this.fail(id, unreachable());
      return;
    }
    setTimeout(() => void this.resume(), 1000 * TRIES[this.tries++]!);
  }

  private async resume(): Promise<void> {
    for (const { id, name, seen } of this.running.values()) {
      await this.send({ v: 1, type: "resume", generation_id: name!, after: seen }, id);
    }
  }

  private hear(frame: ServerFrame): void {
    const generation = this.generationOf(frame);
    if (!generation) return;
    if ("seq" in frame && frame.seq) generation.seen = frame.seq;
    const { hearing } = generation;
    switch (frame.type) {
      case "queued":
        return hearing.queued?.(frame.position);
      case "start":
        generation.name = frame.generation_id;
        return hearing.start?.(frame);
      case "token":
        return hearing.token?.(frame);
      case "steer_ack":
        return hearing.steered?.(frame);
      case "done":
        this.close(generation, frame.lane);
        return hearing.done?.(frame);
      case "error": {
        const { message, code, hint, param, request_id } = frame.error;
        const error = new ApiError(400, code, message, hint ?? "", param ?? null, request_id ?? null);
        return this.fail(generation.id, error);
      }
    }
  }

  private generationOf(frame: ServerFrame): Generation | undefined {
    if ("id" in frame && frame.id && this.running.has(frame.id)) return this.running.get(frame.id);
    if (!("generation_id" in frame)) return undefined;
    return [...this.running.values()].find((one) => one.name === frame.generation_id);
  }

  private close(generation: Generation, lane: string): void {
    generation.open.delete(lane);
    if (!generation.open.size) this.running.delete(generation.id);
  }

  private fail(id: string, error: ApiError): void {
    const generation = this.running.get(id);
    this.running.delete(id);
    generation?.hearing.error(error, null);
  }
}

/** An answer on its way. What is asked of one that has ended is ignored by the server. */
export class LiveAnswer {
  constructor(
    readonly id: string,
    private send: (frame: Record<string, unknown>) => void,
  ) {}

  /** Another recipe from the next token on; null: the base model. */
  steer(steering: SteeringRequest | null, lane?: string): void {
    this.send({ type: "steer", id: this.id, steering, ...(lane && { lane }) });
  }

  stop(lane?: string): void {
    this.send({ type: "stop", id: this.id, ...(lane && { lane }) });
  }
}

export const live = new Live();
