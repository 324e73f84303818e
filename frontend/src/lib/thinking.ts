/** What a reasoning model thought before its answer, in the marks that such models write. */

const OPEN = "<think>";
const CLOSE = "</think>";

export interface Parts {
  thinking: string | null;
  answer: string;
}

export function splitThinking(text: string): Parts {
  const trimmed = text.trimStart();
  if (!trimmed.startsWith(OPEN)) return { thinking: null, answer: text };
  const end = trimmed.indexOf(CLOSE);
  if (end < 0) return { thinking: trimmed.slice(OPEN.length).trim(), answer: "" };
  return {
    thinking: trimmed.slice(OPEN.length, end).trim(),
    answer: trimmed.slice(end + CLOSE.length).trimStart(),
  };
}
