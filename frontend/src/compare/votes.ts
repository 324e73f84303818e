/** Which of two answers people liked better without knowing what had made them. Kept in this browser alone. */

export interface Vote {
  at: number; // milliseconds since 1970
  question: string;
  labels: [string, string];
  winner: 0 | 1 | null; // null: no difference
}

export interface Tally {
  labels: [string, string];
  wins: [number, number];
  same: number;
}

const KEY = "persona-steer.votes";
const MOST = 1000;

export function readVotes(): Vote[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? (found as Vote[]) : [];
  } catch {
    return [];
  }
}

export function writeVotes(votes: readonly Vote[]): void {
  localStorage.setItem(KEY, JSON.stringify(votes.slice(-MOST)));
}

/** How often each of two won against the other, whichever side it stood on. */
export function tally(votes: readonly Vote[], labels: readonly [string, string]): Tally {
  const found: Tally = { labels: [...labels], wins: [0, 0], same: 0 };
  for (const vote of votes) {
    const turned = vote.labels[0] === labels[1] && vote.labels[1] === labels[0];
    if (!turned && (vote.labels[0] !== labels[0] || vote.labels[1] !== labels[1])) continue;
    if (vote.winner === null) found.same++;
    else found.wins[turned ? 1 - vote.winner : vote.winner]!++;
  }
  return found;
}
