/** Light or dark: as the system says until somebody chooses. */

const KEY = "persona-steer.theme";
export type ThemeChoice = "system" | "light" | "dark";

class Theme {
  choice = $state<ThemeChoice>(stored());
  private system = matchMedia("(prefers-color-scheme: dark)");

  constructor() {
    this.system.addEventListener("change", () => this.apply());
    this.apply();
  }

  get isDark(): boolean {
    return this.choice === "dark" || (this.choice === "system" && this.system.matches);
  }

  choose(choice: ThemeChoice): void {
    this.choice = choice;
    localStorage.setItem(KEY, choice);
    this.apply();
  }

  private apply(): void {
    document.documentElement.dataset.theme = this.isDark ? "dark" : "light";
  }
}

function stored(): ThemeChoice {
  const found = localStorage.getItem(KEY);
  return found === "light" || found === "dark" ? found : "system";
}

export const theme = new Theme();
