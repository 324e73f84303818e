/** What to keep in mind about a vector, each said from a number that was measured. */

import type { Schemas, VectorDetail } from "../api/types";
import { COHERENT } from "../lib/curve";
import { count, number } from "../lib/format";

const FEW = 20; // questions below which intervals are wide
const MANY_DROPPED = 0.25; // of the answers

export function cautions(
  detail: VectorDetail,
  measured: Schemas["Measured"] | null,
  overlaps: readonly Schemas["Overlap"][],
): string[] {
  const found: string[] = [];
  const { persona_score: score, control_score: control, coherence } = measured ?? {};
  if (measured && !score) found.push("The model does not take it from a prompt, so its effect has no scale.");
  if (score && control && score.low <= control.high)
    found.push("Its effect is not clearly apart from that of random directions: the intervals overlap.");
  if (coherence && coherence.low < COHERENT)
    found.push(
      `At strength 1 answers may lose their coherence: it may be as low as ${number(coherence.low, 0)}.`,
    );
  if (measured && measured.num_questions < FEW)
    found.push(`Measured on ${count(measured.num_questions, "question")} only.`);
  const { kept, dropped } = detail;
  if (kept != null && dropped && dropped / (kept + dropped) >= MANY_DROPPED)
    found.push(
      `${dropped} of ${kept + dropped} answers were left out of it, for instance because they were refusals.`,
    );
  for (const { a, b, cosine } of overlaps)
    found.push(
      `It points ${cosine > 0 ? "almost the same way as" : "almost against"} ${a === detail.name ? b : a} (cosine ${number(cosine)}).`,
    );
  return found;
}
