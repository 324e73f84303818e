/** Names that are easily taken for one another. */

/** Those of `names` that are nearly `name`: a letter or two apart, or one within the other. */
export function alike(name: string, names: readonly string[]): string[] {
  const own = plain(name);
  if (own.length < 3) return [];
  return names.filter((other) => other !== name && isNear(own, plain(other)));
}

function isNear(a: string, b: string): boolean {
  if (a === b) return true;
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  if (short.length >= 4 && long.includes(short)) return true;
  return distance(a, b) <= (short.length >= 7 ? 2 : 1);
}

function plain(name: string): string {
  return name.replace(/[_-]/g, "");
}

/** Levenshtein's: how many letters are to be put in, taken out or changed. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
