/** Where the page is: `#/screen/part?key=value`. The address is the only place this is kept. */

export const SCREENS = ["chat", "studio", "lab", "library"] as const;
export type Screen = (typeof SCREENS)[number];

export interface Route {
  screen: Screen;
  parts: string[];
  query: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [first = "", ...parts] = path.split("/").filter(Boolean).map(decode);
  const screen = SCREENS.find((name) => name === first) ?? "chat";
  return { screen, parts, query: new URLSearchParams(query) };
}

export function formatRoute(
  screen: Screen,
  parts: string[] = [],
  query: Record<string, string> = {},
): string {
  const path = [screen, ...parts.map(encodeURIComponent)].join("/");
  const search = new URLSearchParams(query).toString();
  return `#/${path}${search && `?${search}`}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address that somebody mistyped
  }
}

class Router {
  route = $state(parseRoute(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.route = parseRoute(location.hash)));
  }

  go(screen: Screen, parts: string[] = [], query: Record<string, string> = {}): void {
    location.hash = formatRoute(screen, parts, query);
  }

  /** The same without a step in the browser's history. */
  replace(screen: Screen, parts: string[] = [], query: Record<string, string> = {}): void {
    history.replaceState(null, "", formatRoute(screen, parts, query));
    this.route = parseRoute(location.hash);
  }
}

export const router = new Router();
