/** Markdown of a model as safe HTML: no scripts, no styles, no images from elsewhere, no links that do not say so. */

import DOMPurify from "dompurify";
import { Marked } from "marked";

// HTML that a model writes is shown as it stands, and pictures, which would have to be fetched, as links.
const marked = new Marked({
  gfm: true,
  breaks: true,
  async: false,
  renderer: {
    html: ({ text }) => escaped(text),
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
  },
});

const TAGS = [
  ..."p br hr strong em del code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 a".split(" "),
  ..."table thead tbody tr th td input".split(" "),
];

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
  if (node.tagName === "INPUT") {
    if (node.getAttribute("type") === "checkbox") node.setAttribute("disabled", "");
    else node.remove();
  }
});

export function render(text: string): string {
  return DOMPurify.sanitize(marked.parse(text) as string, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["href", "start", "type", "checked", "align", "class"],
    ALLOWED_URI_REGEXP: /^https?:\/\//i,
  });
}

/** A growing text in two parts: the blocks that will not change any more, and the one being written. */
export function settled(text: string): [string, string] {
  const fences = [...text.matchAll(/^ {0,3}(```|~~~)/gm)];
  const open = fences.length % 2 ? fences.at(-1)!.index : text.length;
  const end = text.lastIndexOf("\n\n", open);
  return end < 0 ? ["", text] : [text.slice(0, end + 2), text.slice(end + 2)];
}

function escaped(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (found) => entities[found]!);
}
