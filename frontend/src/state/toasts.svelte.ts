/** Short messages at the edge of the page; one with an action stays long enough to be reached. */

import { ApiError } from "../api/errors";

export interface Toast {
  id: number;
  kind: "note" | "error";
  text: string;
  hint?: string;
  action?: { label: string; run: () => void };
}

const SECONDS = { note: 5, error: 12 } as const;
export const UNDO_SECONDS = 10;

class Toasts {
  all = $state<Toast[]>([]);
  private next = 1;

  note(text: string, action?: Toast["action"]): number {
    return this.show({ kind: "note", text, action }, action ? UNDO_SECONDS : SECONDS.note);
  }

  /** Says what went wrong. Something that is no refusal of the server is a fault of the page, and thrown on. */
  error(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (!(error instanceof ApiError)) {
      this.show(
        { kind: "error", text: "The page made a mistake. Reload it; the console has the details." },
        SECONDS.error,
      );
      throw error;
    }
    this.show({ kind: "error", text: error.message, hint: error.hint }, SECONDS.error);
  }

  dismiss(id: number): void {
    this.all = this.all.filter((toast) => toast.id !== id);
  }

  private show(toast: Omit<Toast, "id">, seconds: number): number {
    const id = this.next++;
    this.all = [...this.all.slice(-3), { ...toast, id }];
    setTimeout(() => this.dismiss(id), 1000 * seconds);
    return id;
  }
}

export const toasts = new Toasts();
