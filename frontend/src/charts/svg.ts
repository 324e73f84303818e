/** Panels of a chart as one file, with the colours and letters that they have on the page. */

const KEPT = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-opacity",
  "stroke-dasharray",
  "opacity",
  "font-size",
  "font-family",
  "font-weight",
  "text-anchor",
];
const SPACE = 12; // between panels

export function svgSource(panels: readonly SVGSVGElement[]): string {
  const [first] = panels;
  if (!first) return "";
  const root = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  let height = 0;
  for (const panel of panels) {
    const copy = plain(panel);
    copy.setAttribute("y", String(height));
    height += panel.height.baseVal.value + SPACE;
    root.append(copy);
  }
  const width = first.width.baseVal.value;
  root.setAttribute("width", String(width));
  root.setAttribute("height", String(height));
  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  root.prepend(backdrop(getComputedStyle(first).getPropertyValue("--surface").trim() || "white"));
  return new XMLSerializer().serializeToString(root);
}

function backdrop(colour: string): SVGElement {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: colour }))
    rect.setAttribute(name, value);
  return rect;
}

/** A copy that no style sheet is needed for, without what only a mouse or a screen reader uses. */
function plain(panel: SVGSVGElement): SVGSVGElement {
  const copy = panel.cloneNode(true) as SVGSVGElement;
  const originals = panel.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((element, i) => {
    const computed = getComputedStyle(originals[i]!);
    for (const name of KEPT) {
      const value = computed.getPropertyValue(name);
      if (value) element.setAttribute(name, value);
    }
    for (const name of ["tabindex", "role"]) element.removeAttribute(name);
  });
  copy.querySelectorAll("style, .hit, [aria-label=tip]").forEach((element) => element.remove());
  return copy;
}
