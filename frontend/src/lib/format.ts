/** Numbers and times for people. A value that was not measured has no number: callers say so in words. */

const MINUS = "−";

/** 0.6 → "0.6", -0.25 → "−0.25"; at most `digits` behind the point, none that are zero. */
export function number(value: number, digits = 2): string {
  return trimmed(value.toFixed(digits)).replace("-", MINUS);
}

/** A strength with its sign: "+0.6". */
export function signed(value: number, digits = 2): string {
  const text = number(value, digits);
  return value > 0 && text !== "0" ? `+${text}` : text;
}

/** "0.68 [0.53, 0.87]", the 95 % interval behind the mean. */
export function interval(value: { mean: number; low: number; high: number }, digits = 2): string {
  const [mean, low, high] = [value.mean, value.low, value.high].map((one) =>
    one.toFixed(digits).replace("-", MINUS),
  );
  return `${mean} [${low}, ${high}]`;
}

/** Layers in their short form: 3, 4, 5, 9 → "3–5, 9". */
export function layers(all: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const layer of [...all].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && layer === last[1] + 1) last[1] = layer;
    else runs.push([layer, layer]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

/** Seconds as people say them: "8 s", "2 min 10 s", "1 h 5 min". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60)
    return seconds < 10 && !Number.isInteger(seconds) ? `${seconds.toFixed(1)} s` : `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const rest = minutes % 60;
  return rest ? `${Math.floor(minutes / 60)} h ${rest} min` : `${minutes / 60} h`;
}

/** Seconds that are only guessed, without figures that nobody knows: 1207 → "20 min". */
export function roughly(seconds: number): string {
  const step = seconds >= 600 ? 60 : seconds >= 60 ? 10 : 1;
  return duration(step * Math.round(seconds / step));
}

/** Bytes in powers of 1000: "1.4 GB". */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = count < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(count) / 3));
  return `${trimmed((count / 1000 ** power).toFixed(power ? 1 : 0))} ${units[power]}`;
}

/** When something was, beside now: "14:05" today, "yesterday 14:05", else the date. `seconds` since 1970. */
export function when(seconds: number, now: Date = new Date()): string {
  const then = new Date(1000 * seconds);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const days = Math.round((startOfDay(now) - startOfDay(then)) / 86_400_000);
  if (days === 0) return time;
  if (days === 1) return `yesterday ${time}`;
  return then.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
}

/** "1 token", "3 tokens". */
export function count(amount: number, one: string, many = `${one}s`): string {
  return `${amount.toLocaleString("en")} ${amount === 1 ? one : many}`;
}

function trimmed(text: string): string {
  const short = text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  return short === "-0" ? "0" : short;
}

function startOfDay(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
