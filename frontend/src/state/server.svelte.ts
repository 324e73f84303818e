/** The server as the page knows it: what it runs, whether it can be reached, and news of what changes. */

import { ApiError } from "../api/errors";
import { ask, events } from "../api/http";
import type { ConversationChange, LibraryChange, PublicJobEvent, SlotStatus, SystemInfo } from "../api/types";

export interface News {
  job: PublicJobEvent;
  model: SlotStatus;
  library: LibraryChange;
  conversation: ConversationChange;
  /** The connection is back: whatever was read before may be out of date. */
  back: null;
}

type Listener<Name extends keyof News> = (news: News[Name]) => void;
const WAITS = [1, 2, 4, 8, 15]; // seconds before the next attempt to connect

class Server {
  system = $state.raw<SystemInfo | null>(null);
  slot = $state.raw<SlotStatus | null>(null);
  online = $state(true);
  refused = $state.raw<ApiError | null>(null); // not let in: a token or a name is missing
  private listeners = new Map<keyof News, Set<Listener<never>>>();
  private seen: string | undefined;
  private wake: () => void = () => {};

  /** Whether answers can be had now. */
  get isReady(): boolean {
    return this.online && this.slot?.state === "ready";
  }

  /** Has `listener` told of news; returns what ends that. For use in `$effect`. */
  on<Name extends keyof News>(name: Name, listener: Listener<Name>): () => void {
    const all = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, all.add(listener as Listener<never>));
    return () => all.delete(listener as Listener<never>);
  }

  async refresh(): Promise<void> {
    this.system = await ask<SystemInfo>("GET", "/api/v1/system");
    this.slot = this.system.slot;
  }

  /** Tries to connect now, and not when its time has come. */
  retry(): void {
    this.wake();
  }

  /** Follows the news for as long as the page is there. */
  async follow(): Promise<void> {
    for (let failures = 0; ;) {
      try {
        await this.refresh();
        this.refused = null;
        if (!this.online) this.tell("back", null);
        this.online = true;
        failures = 0;
        for await (const { id, type, data } of this.news()) {
          this.seen = id ?? this.seen;
          if (type === "model") await this.onModel(data as SlotStatus);
          if (type === "job" || type === "library" || type === "conversation") this.tell(type, data as never);
        }
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        this.refused = error.status === 401 || error.status === 403 ? error : null;
      }
      this.online = false;
      await this.pause(WAITS[Math.min(failures++, WAITS.length - 1)]!);
    }
  }

  private news(): ReturnType<typeof events> {
    return events("GET", "/api/v1/events", { headers: this.seen ? { "last-event-id": this.seen } : {} });
  }

  private async onModel(status: SlotStatus): Promise<void> {
    const changed = status.state !== this.slot?.state || status.model !== this.slot?.model;
    this.slot = status;
    if (changed) await this.refresh();
    this.tell("model", status);
  }

  private tell<Name extends keyof News>(name: Name, news: News[Name]): void {
    for (const listener of this.listeners.get(name) ?? []) (listener as Listener<Name>)(news);
  }

  private pause(seconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, 1000 * seconds);
    });
  }
}

export const server = new Server();
