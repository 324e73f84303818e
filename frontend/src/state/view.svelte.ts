/** How the conversation is looked at. */

export type Lanes = "steered" | "base" | "compare";

class View {
  lanes = $state<Lanes>("steered");
  /** Whether tokens are coloured by their projection. */
  heat = $state(false);

  toggle(lanes: Lanes): void {
    this.lanes = this.lanes === lanes ? "steered" : lanes;
  }
}

export const view = new View();
