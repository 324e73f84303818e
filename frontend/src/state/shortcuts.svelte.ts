/** Every key of the page, in one table: it is what the keys do, what `?` lists, and what the documentation says. */

export interface Shortcut {
  keys: string; // "Mod" is Ctrl, and Command on a Mac
  what: string;
  group: "Everywhere" | "Chat" | "Recipe";
}

export const SHORTCUTS = {
  palette: { keys: "Mod+K", what: "Go anywhere, do anything", group: "Everywhere" },
  help: { keys: "?", what: "This list", group: "Everywhere" },
  sidebar: { keys: "Mod+B", what: "Show or hide the conversations", group: "Everywhere" },
  recipe: { keys: "Mod+.", what: "Show or hide the recipe", group: "Everywhere" },
  focus: { keys: "/", what: "Write a message", group: "Chat" },
  fresh: { keys: "Mod+Shift+O", what: "New conversation", group: "Chat" },
  compare: { keys: "Mod+Shift+C", what: "Compare on or off", group: "Chat" },
  heat: { keys: "Mod+Shift+H", what: "Colour the tokens on or off", group: "Chat" },
  again: { keys: "Mod+Enter", what: "Answer once more", group: "Chat" },
  stop: { keys: "Escape", what: "Stop the answer", group: "Chat" },
  previous: { keys: "Alt+ArrowUp", what: "The turn before", group: "Chat" },
  next: { keys: "Alt+ArrowDown", what: "The turn after", group: "Chat" },
  save: { keys: "Mod+Shift+S", what: "Save the recipe as a preset", group: "Recipe" },
  before: { keys: "[", what: "The vector before", group: "Recipe" },
  after: { keys: "]", what: "The vector after", group: "Recipe" },
  less: { keys: "-", what: "0.05 less of the chosen vector", group: "Recipe" },
  more: { keys: "=", what: "0.05 more of the chosen vector", group: "Recipe" },
} as const satisfies Record<string, Shortcut>;

export type ShortcutName = keyof typeof SHORTCUTS;
type Handler = () => void;

const isMac = typeof navigator !== "undefined" && navigator.platform.startsWith("Mac");

/** The shortcut that a key press stands for. Single keys do nothing where somebody types. */
export function matching(event: KeyboardEvent, typing: boolean): ShortcutName | null {
  for (const [name, { keys }] of Object.entries(SHORTCUTS) as [ShortcutName, Shortcut][]) {
    const parts = keys.split("+");
    const key = parts.pop()!;
    const mod = isMac ? event.metaKey : event.ctrlKey;
    if (mod !== parts.includes("Mod") || event.altKey !== parts.includes("Alt")) continue;
    if (/^[A-Z]$|^[a-z]\w+$/i.test(key) && event.shiftKey !== parts.includes("Shift")) continue;
    if (event.key.toLowerCase() !== key.toLowerCase()) continue;
    if (typing && parts.length === 0 && key !== "Escape") continue;
    return name;
  }
  return null;
}

/** The keys of a shortcut as they stand on this machine's keyboard. */
export function shownKeys(name: ShortcutName): string[] {
  const words: Record<string, string> = {
    Mod: isMac ? "⌘" : "Ctrl",
    ArrowUp: "↑",
    ArrowDown: "↓",
    Shift: "⇧",
    Escape: "Esc",
  };
  return SHORTCUTS[name].keys.split("+").map((key) => words[key] ?? key);
}

class Shortcuts {
  private handlers = new Map<ShortcutName, Handler>();
  singleKeys = $state(localStorage.getItem("persona-steer.single-keys") !== "off");

  constructor() {
    addEventListener("keydown", (event) => this.press(event));
  }

  /** Says what a shortcut does; returns what takes it back. For use in `$effect`. */
  on(name: ShortcutName, handler: Handler): () => void {
    this.handlers.set(name, handler);
    return () => this.handlers.get(name) === handler && this.handlers.delete(name);
  }

  setSingleKeys(on: boolean): void {
    this.singleKeys = on;
    localStorage.setItem("persona-steer.single-keys", on ? "on" : "off");
  }

  private press(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.isComposing) return;
    if (document.querySelector("dialog:modal")) return; // it has the keyboard for itself, and closes with Escape
    const target = event.target as HTMLElement | null;
    const typing = !!target?.closest(
      "input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]",
    );
    const name = matching(event, typing || !this.singleKeys);
    const handler = name && this.handlers.get(name);
    if (!handler) return;
    event.preventDefault();
    handler();
  }
}

export const shortcuts = new Shortcuts();
