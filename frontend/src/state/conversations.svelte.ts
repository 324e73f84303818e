/** The list of conversations; they themselves are on the server. */

import { ask } from "../api/http";
import type { Conversation, ConversationPage, FoundConversation } from "../api/types";
import { server } from "./server.svelte";
import { toasts, UNDO_SECONDS } from "./toasts.svelte";

const PAGE = 50;

class Conversations {
  all = $state.raw<FoundConversation[]>([]);
  hasMore = $state(false);
  search = $state("");
  loaded = $state(false);
  private going = $state.raw<ReadonlySet<string>>(new Set()); // being deleted, while it can be undone
  private searching = 0;

  readonly shown = $derived(this.all.filter((one) => !this.going.has(one.id)));

  constructor() {
    server.on("back", () => void this.refresh());
    server.on("conversation", () => void this.refresh());
  }

  async refresh(): Promise<void> {
    const turn = ++this.searching;
    const page = await this.page({ limit: Math.max(PAGE, Math.min(this.all.length, 100)) });
    if (turn !== this.searching) return; // somebody has typed on
    this.all = page.data;
    this.hasMore = page.has_more ?? false;
    this.loaded = true;
  }

  async more(): Promise<void> {
    const page = await this.page({ limit: PAGE, after: this.all.at(-1)?.id });
    this.all = [...this.all, ...page.data];
    this.hasMore = page.has_more ?? false;
  }

  async rename(id: string, title: string): Promise<void> {
    const changed = await ask<Conversation>("PATCH", `/api/v1/conversations/${id}`, { body: { title } });
    this.all = this.all.map((one) => (one.id === id ? { ...one, ...changed } : one));
  }

  /** Deletes when the time for undoing is over, or the page is left. */
  delete(id: string, title: string): void {
    const finish = () => {
      clearTimeout(timer);
      removeEventListener("pagehide", finish);
      if (this.going.has(id)) void this.remove(id);
    };
    const timer = setTimeout(finish, 1000 * UNDO_SECONDS);
    addEventListener("pagehide", finish);
    this.going = new Set([...this.going, id]);
    toasts.note(`Deleted “${title}”.`, { label: "Undo", run: () => this.keep(id) });
  }

  private keep(id: string): void {
    this.going = new Set([...this.going].filter((one) => one !== id));
  }

  private async remove(id: string): Promise<void> {
    try {
      await ask("DELETE", `/api/v1/conversations/${id}`, { keepalive: true });
      this.all = this.all.filter((one) => one.id !== id);
    } catch (error) {
      toasts.error(error);
    } finally {
      this.keep(id);
    }
  }

  private page(query: Record<string, string | number | undefined>): Promise<ConversationPage> {
    return ask<ConversationPage>("GET", "/api/v1/conversations", {
      query: { ...query, q: this.search.trim() || undefined },
    });
  }
}

export const conversations = new Conversations();
