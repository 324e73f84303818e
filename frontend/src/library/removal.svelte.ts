/** Deleting with a while in which it can be undone: the vector is hidden at once, and removed in the end. */

import { SvelteSet } from "svelte/reactivity";

import { ask } from "../api/http";
import type { VectorCard } from "../api/types";
import { library } from "../state/library.svelte";
import { toasts, UNDO_SECONDS } from "../state/toasts.svelte";

class Removal {
  going = new SvelteSet<string>();

  begin(kind: "personas" | "traits" | "axes", card: VectorCard): void {
    const key = `${card.kind}/${card.id}`;
    this.going.add(key);
    const finish = () => {
      clearTimeout(timer);
      removeEventListener("pagehide", finish);
      if (this.going.has(key)) void this.finish(key, `/api/v1/${kind}/${encodeURIComponent(card.id)}`);
    };
    const timer = setTimeout(finish, 1000 * UNDO_SECONDS);
    addEventListener("pagehide", finish);
    toasts.note(`Deleted ${card.name}.`, { label: "Undo", run: () => this.going.delete(key) });
  }

  private async finish(key: string, path: string): Promise<void> {
    try {
      await ask("DELETE", path, { keepalive: true });
      await library.refresh();
    } catch (error) {
      toasts.error(error);
    } finally {
      this.going.delete(key);
    }
  }
}

export const removal = new Removal();
