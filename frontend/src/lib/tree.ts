/** A conversation's messages as a tree: which branch is shown, and which others there are. */

export interface Node {
  id: string;
  parent_id: string | null;
}

/** From a root to `leaf`, in order; empty where there is no such message. */
export function path<Message extends Node>(
  messages: ReadonlyMap<string, Message>,
  leaf: string | null,
): Message[] {
  const found: Message[] = [];
  for (let node = messages.get(leaf ?? ""); node; node = messages.get(node.parent_id ?? "")) found.push(node);
  return found.reverse();
}

/** The messages with the same parent, the oldest first; identifiers sort by time. */
export function siblings<Message extends Node>(
  messages: ReadonlyMap<string, Message>,
  message: Message,
): Message[] {
  return [...messages.values()].filter((one) => one.parent_id === message.parent_id).sort(byId);
}

/** The end of the newest branch below a message. */
export function newestLeaf<Message extends Node>(messages: ReadonlyMap<string, Message>, id: string): string {
  const children = new Map<string, string>();
  for (const { id: own, parent_id: parent } of [...messages.values()].sort(byId))
    if (parent) children.set(parent, own);
  let leaf = id;
  for (let child = children.get(leaf); child; child = children.get(leaf)) leaf = child;
  return leaf;
}

function byId(a: Node, b: Node): number {
  return a.id < b.id ? -1 : 1;
}
