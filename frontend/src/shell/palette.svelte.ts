/** Commands that the palette offers: those of the shell, and those of the screen that is shown. */

import { untrack } from "svelte";

import type { IconName } from "../ui/icons";

export interface Command {
  id: string;
  title: string;
  group: string;
  icon?: IconName;
  keys?: string[];
  run: () => void;
}

class Palette {
  open = $state(false);
  private sources = $state.raw<(() => Command[])[]>([]);

  readonly commands = $derived(this.sources.flatMap((source) => source()));

  show(): void {
    this.open = true;
  }

  /** Adds commands while a component lives: call it in `$effect`. They are computed when they are shown. */
  offer(source: () => Command[]): () => void {
    // an effect that reads what it changes would run for ever
    this.sources = [...untrack(() => this.sources), source];
    return () => (this.sources = this.sources.filter((one) => one !== source));
  }
}

export const palette = new Palette();

/** Commands whose words all begin like the words that are searched, those that begin with them first. */
export function found(commands: readonly Command[], text: string): Command[] {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = commands.filter(({ title, group }) => {
    const words = `${title} ${group}`.toLowerCase().split(/[\s,:()]+/);
    return wanted.every((part) => words.some((word) => word.startsWith(part)));
  });
  const first = text.trim().toLowerCase();
  return fits.sort((a, b) => rank(a, first) - rank(b, first));
}

function rank(command: Command, text: string): number {
  return command.title.toLowerCase().startsWith(text) ? 0 : 1;
}
