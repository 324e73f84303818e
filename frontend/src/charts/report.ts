/** A page that needs nothing but itself: what a chart or a grid shows, to be kept and passed on. */

import { shown, type Table } from "./table";

export interface Section {
  /** Left out where there is but one. */
  heading?: string;
  text: string;
  /** The chart as SVG source, as `svgSource` gives it. */
  svg?: string;
  table: Table;
}

const STYLE = `
:root { color-scheme: light; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; font: 15px/1.55 system-ui, sans-serif; color: #1d1c1a; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 0.35rem 0.6rem; border: 1px solid #dedad1; text-align: left; vertical-align: top; white-space: pre-wrap; }
th { background: #f1efea; }
.frame { overflow-x: auto; }
footer { margin-top: 2rem; color: #55524b; font-size: 13px; }
`;

export function reportPage(title: string, sections: readonly Section[], note: string): string {
  return [
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<title>${escaped(title)}</title><style>${STYLE}</style></head><body><h1>${escaped(title)}</h1>`,
    ...sections.map(section),
    `<footer>${escaped(note)}</footer></body></html>\n`,
  ].join("\n");
}

function section({ heading, text, svg, table }: Section): string {
  const head = table.columns.map((name) => `<th scope="col">${escaped(name)}</th>`).join("");
  const rows = table.rows.map(
    (row) => `<tr>${row.map((cell) => `<td>${escaped(shown(cell))}</td>`).join("")}</tr>`,
  );
  return [
    `<section>${heading ? `<h2>${escaped(heading)}</h2>` : ""}<p>${escaped(text)}</p>`,
    svg ?? "",
    `<div class="frame"><table><thead><tr>${head}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div></section>`,
  ].join("\n");
}

export function escaped(text: string): string {
  const signs: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (sign) => signs[sign]!);
}
