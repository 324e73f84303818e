/** The conversation that is shown, and the answer that is being written into it. */

import { SvelteMap } from "svelte/reactivity";

import { ApiError } from "../api/errors";
import { ask } from "../api/http";
import { Live } from "../api/live";
import type {
  AppliedSteering,
  Conversation,
  Live as Frames,
  MessageNode,
  SteeringRequest,
  Transcript,
} from "../api/types";
import { newestLeaf, path, siblings } from "../lib/tree";
import { conversations } from "./conversations.svelte";
import { grown, type Growing } from "./growing";
import { inspect } from "./inspect.svelte";
import { recipe } from "./recipe.svelte";
import { router } from "./router.svelte";
import { sampling } from "./sampling.svelte";
import { server } from "./server.svelte";
import { toasts } from "./toasts.svelte";
import { view } from "./view.svelte";

/** An answer on its way. */
export interface Writing extends Growing {
  messageId: string;
  steering: AppliedSteering | null;
  /** Where the recipe changed: the place of the first token, and what it was from there on. */
  changes: { from: number; steering: AppliedSteering | null }[];
  began: number; // performance.now()
}

const STEER_EVERY = 60; // milliseconds between two changes that are sent

class Thread {
  conversation = $state.raw<Conversation | null>(null);
  messages = new SvelteMap<string, MessageNode>();
  leaf = $state<string | null>(null);
  loading = $state(false);
  writing = $state.raw<Writing | null>(null);
  position = $state<number | null>(null); // in the queue, before the answer begins
  waiting = $state<string | null>(null); // a message that goes off once there is a model
  problem = $state.raw<ApiError | null>(null);
  /** Whether answers are steered by the recipe; otherwise the base model answers. */
  steered = $state(true);
  private live = new Live();
  private said = ""; // the recipe that the server knows
  private frame = 0;
  private unshown: Frames["LiveToken"][] = [];
  private steering: ReturnType<typeof setTimeout> | null = null;

  readonly path = $derived(path(this.messages, this.leaf));
  readonly busy = $derived(this.writing !== null || this.position !== null);

  constructor() {
    server.on("model", () => void this.sendWaiting());
    server.on("back", () => this.conversation && void this.open(this.conversation.id));
  }

  async open(id: string | null): Promise<void> {
    if (id !== null && this.conversation?.id === id && (this.busy || this.loading)) return;
    this.leave();
    this.problem = null;
    if (id === null) {
      this.conversation = null;
      this.messages.clear();
      this.leaf = null;
      return;
    }
    this.loading = this.conversation?.id !== id;
    try {
      const found = await ask<Transcript>("GET", `/api/v1/conversations/${id}/messages`);
      this.conversation = found.conversation;
      this.messages.clear();
      for (const message of found.messages) this.messages.set(message.id, message);
      this.leaf = found.conversation.leaf_id;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error;
    } finally {
      this.loading = false;
    }
  }

  /** Sends a message; with `parent` beside the ones that have that parent already. */
  async send(content: string, parent: string | null | undefined = undefined): Promise<void> {
    if (!server.isReady) {
      this.waiting = content;
      return;
    }
    this.problem = null;
    try {
      const conversation = this.conversation ?? (await this.begin());
      const after = parent === undefined ? this.leaf : parent;
      const system = after === null && sampling.settings.system.trim();
      this.generate({
        conversation_id: conversation.id,
        parent_id: after,
        content,
        ...(system && { system }),
      });
    } catch (error) {
      this.refused(error);
    }
  }

  /** Answers a question once more: another branch beside the answers there are. */
  again(question: string): void {
    if (this.conversation) this.generate({ conversation_id: this.conversation.id, answer_to: question });
  }

  stop(): void {
    this.live.stop();
    this.waiting = null;
  }

  branches(message: MessageNode): MessageNode[] {
    return siblings(this.messages, message);
  }

  async show(id: string): Promise<void> {
    this.leaf = newestLeaf(this.messages, id);
    const address = `/api/v1/conversations/${this.conversation!.id}`;
    try {
      this.conversation = await ask<Conversation>("PATCH", address, { body: { leaf_id: this.leaf } });
    } catch (error) {
      toasts.error(error);
    }
  }

  /** Tells the answer that is being written that the recipe has changed. Call it in `$effect`. */
  follow(steering: SteeringRequest | null): void {
    const wanted = this.steered ? steering : null;
    const said = JSON.stringify(wanted);
    if (!this.writing || said === this.said) return;
    this.said = said;
    if (this.steering) clearTimeout(this.steering);
    this.steering = setTimeout(() => this.live.steer(wanted), STEER_EVERY);
  }

  /** An empty conversation, of which the address tells from now on. */
  async begin(): Promise<Conversation> {
    this.conversation = await ask<Conversation>("POST", "/api/v1/conversations", { body: {} });
    router.replace("chat", [this.conversation.id]);
    return this.conversation;
  }

  private generate(conversation: NonNullable<Frames["Generate"]["conversation"]>): void {
    this.problem = null;
    this.position = 0;
    const asked = this.steered ? recipe.steering : null;
    this.said = JSON.stringify(asked);
    const steering = view.heat ? inspect.traced(asked) : asked;
    this.live.generate(
      { conversation, lanes: [{ label: "", steering }], sampling: sampling.asked },
      {
        queued: (frame) => (this.position = frame.waiting),
        start: (frame) => this.begun(frame),
        token: (frame) => this.take(frame),
        steered: (frame) => {
          if (!this.writing) return;
          const changes = this.writing.changes.filter((one) => one.from !== frame.from_token);
          this.writing = {
            ...this.writing,
            changes: [...changes, { from: frame.from_token, steering: frame.steering }],
          };
        },
        done: ({ answer }) => answer && this.messages.set(answer.id, answer),
        failed: (_lane, _error, { answer }) => answer && this.messages.set(answer.id, answer),
        end: (error) => this.over(error),
      },
    );
  }

  private begun(frame: Frames["LiveStarted"]): void {
    this.position = null;
    const lane = frame.lanes[0]!;
    for (const node of [frame.system, frame.user, lane.answer]) if (node) this.messages.set(node.id, node);
    if (!lane.answer) return;
    this.leaf = lane.answer.id;
    const { steering } = lane;
    this.writing = {
      messageId: lane.answer.id,
      text: "",
      tokens: [],
      steering,
      changes: [],
      began: performance.now(),
    };
    this.follow(recipe.steering); // it may have changed meanwhile
  }

  private over(error: ApiError | null): void {
    const there = this.conversation;
    this.ended();
    if (!error) return void conversations.refresh().catch(() => {});
    this.problem = error;
    if (there && server.online) void this.open(there.id).then(() => (this.problem = error));
  }

  /** Tokens are shown once a frame, however fast they come. */
  private take(frame: Frames["LiveToken"]): void {
    this.position = null;
    this.unshown.push(frame);
    this.frame ||= requestAnimationFrame(() => this.showTokens());
  }

  private showTokens(): void {
    this.frame = 0;
    const { writing } = this;
    if (!writing) return;
    this.writing = { ...writing, ...grown(writing, this.unshown.splice(0)) };
  }

  private ended(): void {
    this.showTokens();
    if (this.steering) clearTimeout(this.steering);
    this.writing = this.position = null;
    this.unshown = [];
  }

  private leave(): void {
    this.live.stop();
    this.ended();
  }

  private refused(error: unknown): void {
    if (!(error instanceof ApiError)) throw error;
    this.position = null;
    this.problem = error;
  }

  private async sendWaiting(): Promise<void> {
    if (this.waiting === null || !server.isReady) return;
    const content = this.waiting;
    this.waiting = null;
    await this.send(content);
  }
}

export const thread = new Thread();
