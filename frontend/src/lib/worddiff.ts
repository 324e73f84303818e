/** Which words of two answers are their own: the longest common subsequence of words, spaces kept. */

export interface Word {
  text: string;
  same: boolean;
}

const MOST = 1500; // words of one side; beyond, nothing is compared

export function wordDiff(a: string, b: string): [Word[], Word[]] | null {
  const [left, right] = [words(a), words(b)];
  if (left.length > MOST || right.length > MOST) return null;
  const wide = right.length + 1;
  const table = new Uint16Array((left.length + 1) * wide);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      table[i * wide + j] =
        key(left[i]!) === key(right[j]!)
          ? table[(i + 1) * wide + j + 1]! + 1
          : Math.max(table[(i + 1) * wide + j]!, table[i * wide + j + 1]!);
    }
  }
  const own: [boolean[], boolean[]] = [left.map(() => false), right.map(() => false)];
  for (let i = 0, j = 0; i < left.length && j < right.length;) {
    if (key(left[i]!) === key(right[j]!)) own[0][i++] = own[1][j++] = true;
    else if (table[(i + 1) * wide + j]! >= table[i * wide + j + 1]!) i++;
    else j++;
  }
  return [marked(left, own[0]), marked(right, own[1])];
}

function words(text: string): string[] {
  return text.match(/\S+\s*|\s+/g) ?? [];
}

function key(word: string): string {
  return word.trim().toLowerCase();
}

function marked(all: string[], same: boolean[]): Word[] {
  return all.map((text, place) => ({ text, same: same[place]! }));
}
