/** The points of a chart that can be opened: by the mouse, or by Tab to one of them and arrows from there. */

type Bound = SVGElement & { __data__?: number }; // Plot binds each element to the place of its datum

const SELECTOR = ".hit > *";

export function hits(panels: readonly SVGSVGElement[], onpick: (i: number) => void): void {
  for (const panel of panels) {
    panel.querySelectorAll<Bound>(SELECTOR).forEach((element, place) => {
      const at = element.__data__;
      if (at === undefined) return;
      element.setAttribute("role", "button");
      element.setAttribute("tabindex", place === 0 ? "0" : "-1");
      element.addEventListener("click", () => onpick(at));
    });
  }
}

/** Keys on a point: Enter opens it, arrows move to its neighbours in the same panel. */
export function reach(event: KeyboardEvent): void {
  const from = event.target as SVGElement;
  if (!from.matches(SELECTOR)) return;
  const all = [...from.ownerSVGElement!.querySelectorAll<SVGElement>(SELECTOR)];
  const at = all.indexOf(from);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (event.key === "Enter" || event.key === " ")
    from.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  else if (to === undefined) return;
  event.preventDefault();
  const next = to === undefined ? undefined : all[to];
  if (!next) return;
  from.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}
