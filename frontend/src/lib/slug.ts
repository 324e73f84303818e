/** A name as the server takes it, out of what somebody types: "Grumpy Wizard!" → "grumpy_wizard"; empty for nothing. */
export function slug(text: string): string {
  return text
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[\u0300-\u036f]/g, "")
    .replace(/[^a-z0-9_-]+/g, "_")
    .replace(/^[_-]+|[_-]+$/g, "")
    .slice(0, 64)
    .replace(/[_-]+$/, "");
}
