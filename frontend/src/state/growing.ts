import type { Live } from "../api/types";

/** A token as it came, with what was read at it. */
export interface SeenToken {
  text: string;
  logprob: number | null;
  readings: Record<string, [number, number]>;
}

export interface Growing {
  text: string;
  tokens: SeenToken[];
}

/** An answer with what has come since. The readings of a token come one step after it. */
export function grown({ text, tokens: before }: Growing, frames: readonly Live["LiveToken"][]): Growing {
  const tokens = [...before];
  for (const frame of frames) {
    text += frame.text;
    if (frame.token !== null && frame.token !== undefined) {
      tokens[frame.i] = { text: frame.token, logprob: frame.logprob ?? null, readings: {} };
    }
    for (const { i, axes } of frame.readings ?? []) {
      const token = tokens[i];
      if (token) tokens[i] = { ...token, readings: axes as SeenToken["readings"] };
    }
  }
  return { text, tokens };
}
