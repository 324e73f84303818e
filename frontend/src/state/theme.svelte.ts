/** Light or dark: as the system says until somebody chooses. */

const KEY = "persona-steer.theme";
export type ThemeChoice = "system" | "light" | "dark";

class Theme {
  choice = $state<ThemeChoice>(stored());
  private media = matchMedia("(prefers-color-scheme: dark)");
  private systemIsDark = $state(this.media.matches);

  constructor() {
    this.media.addEventListener("change", ({ matches }) => {
      this.systemIsDark = matches;
      this.apply();
    });
    this.apply();
  }

  get isDark(): boolean {
    return this.choice === "dark" || (this.choice === "system" && this.systemIsDark);
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
