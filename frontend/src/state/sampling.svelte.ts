/** How tokens are chosen, as somebody sets it; null is as the server is configured. */

export interface Settings {
  temperature: number | null;
  top_p: number | null;
  max_tokens: number | null;
  seed: number | null; // locked; null: a fresh one each time
  system: string;
}

const KEY = "persona-steer.sampling";
const NONE: Settings = { temperature: null, top_p: null, max_tokens: null, seed: null, system: "" };

class SamplingState {
  settings = $state<Settings>(stored());

  set(change: Partial<Settings>): void {
    this.settings = { ...this.settings, ...change };
    localStorage.setItem(KEY, JSON.stringify(this.settings));
  }

  /** What is set, as requests say it. */
  get asked(): Record<string, number> {
    const { temperature, top_p, max_tokens, seed } = this.settings;
    const given = Object.entries({ temperature, top_p, max_tokens, seed });
    return Object.fromEntries(given.filter((entry): entry is [string, number] => entry[1] !== null));
  }

  get isChanged(): boolean {
    return JSON.stringify(this.settings) !== JSON.stringify(NONE);
  }

  reset(): void {
    this.set(NONE);
  }
}

function stored(): Settings {
  try {
    return { ...NONE, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Settings>) };
  } catch {
    return NONE;
  }
}

export const sampling = new SamplingState();
