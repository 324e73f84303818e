/** What the charts use of the charting library; the rest of it is not sent to browsers. */

export { areaY, cell, dot, line, plot, pointer, rect, ruleX, ruleY, text, tip } from "@observablehq/plot";
