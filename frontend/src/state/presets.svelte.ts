/** Recipes that are kept on the server under a name. */

import { ask } from "../api/http";
import type { Preset } from "../api/types";
import { everything, library } from "./library.svelte";
import { recipe } from "./recipe.svelte";
import { server } from "./server.svelte";
import { toasts, UNDO_SECONDS } from "./toasts.svelte";

const PATH = "/api/v1/presets";

class Presets {
  all = $state.raw<Preset[]>([]);

  constructor() {
    server.on(
      "library",
      (news) => (news.kind === "preset" || !news.kind) && void this.refresh().catch(() => {}),
    );
  }

  async refresh(): Promise<void> {
    this.all = await everything<Preset>(PATH);
  }

  use(preset: Preset): void {
    recipe.take(preset.steering, { preset: preset.name, kindOf: (name) => library.kindOf(name) });
  }

  async create(name: string): Promise<void> {
    await ask<Preset>("POST", PATH, { body: { name, steering: recipe.steering } });
    this.kept(name);
    await this.refresh();
  }

  async update(name: string): Promise<void> {
    await ask<Preset>("PATCH", `${PATH}/${name}`, { body: { steering: recipe.steering } });
    this.kept(name);
    await this.refresh();
  }

  /** Deletes after a while in which it can be undone. */
  delete(preset: Preset): void {
    this.all = this.all.filter((one) => one.name !== preset.name);
    const timer = setTimeout(() => {
      ask("DELETE", `${PATH}/${preset.name}`, { keepalive: true }).catch((error: unknown) =>
        toasts.error(error),
      );
    }, 1000 * UNDO_SECONDS);
    toasts.note(`Deleted the preset ${preset.name}.`, {
      label: "Undo",
      run: () => {
        clearTimeout(timer);
        void this.refresh();
      },
    });
  }

  private kept(name: string): void {
    recipe.preset = name;
    recipe.changed = false;
    toasts.note(`Kept as the preset ${name}. Any client can ask for it as MODEL:preset/${name}.`);
  }
}

export const presets = new Presets();
