/** What somebody typed, kept from one visit to the next. */
export function remembered<Value extends object>(
  key: string,
  first: Value,
): { value: Value; keep: (value: Value) => void } {
  return { value: stored(key, first), keep: (value) => localStorage.setItem(key, JSON.stringify(value)) };
}

function stored<Value extends object>(key: string, first: Value): Value {
  try {
    return { ...first, ...(JSON.parse(localStorage.getItem(key) ?? "{}") as Partial<Value>) };
  } catch {
    return first; // of an older page
  }
}
