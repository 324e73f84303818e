/** Which of the two side panels are open; remembered where there is room for them. */

const ROOM = "(min-width: 64rem)";

class Layout {
  private wide = matchMedia(ROOM);
  hasRoom = $state(this.wide.matches);
  sidebar = $state(this.wide.matches && localStorage.getItem("persona-steer.sidebar") !== "off");
  recipe = $state(this.wide.matches && localStorage.getItem("persona-steer.recipe") !== "off");

  constructor() {
    this.wide.addEventListener("change", ({ matches }) => {
      this.hasRoom = matches;
      this.sidebar = this.recipe = matches;
    });
  }

  toggle(panel: "sidebar" | "recipe"): void {
    this[panel] = !this[panel];
    if (this.hasRoom) localStorage.setItem(`persona-steer.${panel}`, this[panel] ? "on" : "off");
    else if (this[panel]) this[panel === "sidebar" ? "recipe" : "sidebar"] = false; // one sheet at a time
  }

  close(panel: "sidebar" | "recipe"): void {
    if (!this.hasRoom) this[panel] = false;
  }
}

export const layout = new Layout();
