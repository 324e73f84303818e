/** The numbers of a chart or a grid as a table, and as CSV. */

import { number } from "../lib/format";

export type Cell = string | number | null; // null: not measured

export interface Table {
  columns: readonly string[];
  rows: readonly (readonly Cell[])[];
}

/** A cell as people read it. */
export function shown(cell: Cell): string {
  if (cell === null) return "not measured";
  return typeof cell === "number" ? number(cell, 3) : cell;
}

/** RFC 4180, with the numbers as they were measured and nothing where there is none. */
export function csv(table: Table): string {
  return [table.columns, ...table.rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

function field(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell === "number") return String(cell);
  // a text that a spreadsheet would run as a formula is marked as a text
  const text = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
