/** A recipe in an address: names and numbers, deflated. No text of a conversation ever is. */

export async function pack(value: unknown): Promise<string> {
  const packed = await through(
    new TextEncoder().encode(JSON.stringify(value)),
    new CompressionStream("deflate-raw"),
  );
  return btoa(String.fromCharCode(...packed))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}

const MOST = 20_000; // characters of JSON; a recipe of eight vectors has a few hundred

/** What was packed; null for what is none. */
export async function unpack(text: string): Promise<unknown> {
  try {
    const packed = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) =>
      char.charCodeAt(0),
    );
    const plain = await through(packed, new DecompressionStream("deflate-raw"));
    return plain.length > MOST ? null : JSON.parse(new TextDecoder().decode(plain));
  } catch {
    return null;
  }
}

async function through(bytes: Uint8Array<ArrayBuffer>, stream: GenericTransformStream): Promise<Uint8Array> {
  const reader = new Blob([bytes])
    .stream()
    .pipeThrough(stream as ReadableWritablePair<Uint8Array, Uint8Array<ArrayBuffer>>)
    .getReader();
  const parts: number[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Uint8Array.from(parts);
    parts.push(...value);
    if (parts.length > 4 * MOST) throw new RangeError("too much");
  }
}
