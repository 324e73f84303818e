/** Where a panel goes beside what opened it: on the wished side where there is room, never beyond the window. */

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export interface Size {
  width: number;
  height: number;
}

const GAP = 4;
const EDGE = 8;

export function place(
  anchor: Box,
  panel: Size,
  room: Size,
  wish: { align: "start" | "end"; side: "below" | "above" },
): { left: number; top: number } {
  const wanted = wish.align === "start" ? anchor.left : anchor.right - panel.width;
  const below = anchor.bottom + GAP;
  const above = anchor.top - GAP - panel.height;
  const fitsBelow = below + panel.height <= room.height - EDGE;
  const fitsAbove = above >= EDGE;
  const top =
    wish.side === "below"
      ? fitsBelow || !fitsAbove
        ? below
        : above
      : fitsAbove || !fitsBelow
        ? above
        : below;
  return {
    left: clamp(wanted, EDGE, room.width - EDGE - panel.width),
    top: clamp(top, EDGE, room.height - EDGE - panel.height),
  };
}

function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(value, high));
}
