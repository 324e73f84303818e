/** Models that could be loaded, and the one that is. */

import { ask } from "../api/http";
import type { ListedModel, Schemas, SlotStatus } from "../api/types";
import { server } from "./server.svelte";

class Models {
  available = $state.raw<ListedModel[]>([]);
  loaded = $state(false);

  constructor() {
    server.on("model", () => this.loaded && void this.refresh().catch(() => {}));
  }

  async refresh(): Promise<void> {
    this.available = (await ask<Schemas["Models"]>("GET", "/api/v1/models")).available;
    this.loaded = true;
  }

  async load(name: string, quantization: "4bit" | "8bit" | null): Promise<void> {
    server.slot = await ask<SlotStatus>("POST", "/api/v1/models/load", { body: { name, quantization } });
  }

  async unload(): Promise<void> {
    server.slot = await ask<SlotStatus>("POST", "/api/v1/models/unload", { body: {} });
    await server.refresh();
  }
}

export const models = new Models();
