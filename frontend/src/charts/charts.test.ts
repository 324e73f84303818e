import { expect, test } from "vitest";

import { reportPage } from "./report";
import { csv, shown } from "./table";

test("CSV quotes what needs it, and leaves empty what was not measured", () => {
  const table = {
    columns: ["Question", "Coherence"],
    rows: [
      ['Say "hi", now', 81.25],
      ["two\nlines", null],
    ],
  };
  expect(csv(table)).toBe('Question,Coherence\r\n"Say ""hi"", now",81.25\r\n"two\nlines",\r\n');
});

test("a text is never a formula of a spreadsheet, and a negative number stays one", () => {
  const rows = [["=1+1", "@x", -2.5]];
  expect(csv({ columns: ["a", "b", "c"], rows })).toBe("a,b,c\r\n'=1+1,'@x,-2.5\r\n");
});

test("what was not measured has words and no number", () => {
  expect(shown(null)).toBe("not measured");
  expect(shown(-0.5)).toBe("−0.5");
});

test("nothing that a model or a person wrote becomes markup of a report", () => {
  const evil = '<script>alert("x")</script>';
  const table = { columns: [evil], rows: [[evil]] };
  const page = reportPage(evil, [{ heading: evil, text: evil, table }], evil);
  expect(page).not.toContain("<script");
  expect(page.match(/&lt;script&gt;alert\(&quot;x&quot;\)/g)).toHaveLength(7);
});
