/** Two answers to one question, with one seed: what each is made with, and how far they have come. */

import { ApiError } from "../api/errors";
import { ask } from "../api/http";
import { Live } from "../api/live";
import type { Conversation, Live as Frames, PastMessage, SteeringRequest } from "../api/types";
import { chainOf, sampledWith } from "../inspect/files";
import { pairsOf, type Pair } from "../inspect/readings";
import { conversations } from "../state/conversations.svelte";
import { grown } from "../state/growing";
import { inspect, type Subject } from "../state/inspect.svelte";
import { presets } from "../state/presets.svelte";
import { recipe } from "../state/recipe.svelte";
import { router } from "../state/router.svelte";
import { sampling } from "../state/sampling.svelte";
import { server } from "../state/server.svelte";
import { thread } from "../state/thread.svelte";
import { view } from "../state/view.svelte";
import { labelOf, missing, shortOf, steeringOf, type Choice } from "./choices";
import { ended, readBy, storedRound, subjectOf, type Lane, type Round } from "./rounds";
import { readVotes, tally, writeVotes } from "./votes";

type Choices = [Choice, Choice];
const KEY = "persona-steer.compare";
const STEER_EVERY = 60; // milliseconds between two changes that are sent

class Comparison {
  choices = $state<Choices>([{ kind: "base" }, { kind: "recipe" }]);
  blind = $state(false);
  words = $state(false); // whether different words are marked
  problem = $state.raw<ApiError | null>(null);
  busy = $state(false);
  position = $state<number | null>(null);
  votes = $state.raw(readVotes());
  private asked = $state.raw<Round | null>(null);
  private live = new Live();
  private said = ""; // the recipe that the server knows
  private frame = 0;
  private unshown: Frames["LiveToken"][] = [];
  private steering: ReturnType<typeof setTimeout> | null = null;

  /** What is shown: what was asked here, else the two newest answers to the conversation's last question. */
  readonly round = $derived.by(() => {
    const { asked } = this;
    return asked && asked.conversation === (thread.conversation?.id ?? null)
      ? asked
      : storedRound(thread.path, thread.messages);
  });
  readonly lacks = $derived(this.choices.map((choice) => missing(choice, presets.all)).find(Boolean) ?? "");
  /** Whether the answers can be kept as branches: a conversation has one system prompt. */
  readonly keeps = $derived(this.choices.every((choice) => choice.kind !== "prompt"));
  readonly tally = $derived(
    this.round?.lanes.length === 2
      ? tally(this.votes, [this.round.lanes[0]!.label, this.round.lanes[1]!.label])
      : null,
  );

  /** As the message box knows it. */
  get asTarget() {
    const { busy, lacks } = this;
    return { busy, lacks, ask: (text: string | null) => void this.ask(text), stop: () => this.stop() };
  }

  constructor() {
    try {
      Object.assign(this, JSON.parse(localStorage.getItem(KEY) ?? "{}"));
    } catch {
      localStorage.removeItem(KEY);
    }
  }

  set(change: Partial<Pick<Comparison, "choices" | "blind" | "words">>): void {
    Object.assign(this, change);
    localStorage.setItem(
      KEY,
      JSON.stringify({ choices: this.choices, blind: this.blind, words: this.words }),
    );
  }

  choose(lane: 0 | 1, choice: Choice): void {
    this.set({ choices: lane === 0 ? [choice, this.choices[1]] : [this.choices[0], choice] });
  }

  /** Has both lanes answer a new question, or (null) the last one of the conversation once more. */
  async ask(content: string | null): Promise<void> {
    this.problem = null;
    const last = thread.path.findLast((message) => message.role === "user");
    if (this.busy || (content === null && !last)) return;
    const question = content ?? last!.content;
    const place = content === null ? thread.path.indexOf(last!) : thread.path.length;
    const before = thread.path.slice(0, place).map(({ role, content }) => ({ role, content }));
    try {
      if (this.keeps) {
        const { id } = thread.conversation ?? (await thread.begin());
        const system = !before.length && content !== null && sampling.settings.system.trim();
        const turn =
          content === null
            ? { conversation_id: id, answer_to: last!.id }
            : { conversation_id: id, parent_id: thread.leaf, content, ...(system && { system }) };
        this.generate({ conversation: turn }, before, question);
      } else {
        const messages: PastMessage[] = [...before, { role: "user", content: question }];
        this.generate({ messages }, before, question);
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error;
    }
  }

  stop(): void {
    this.live.stop();
  }

  /** Tells lanes that follow the recipe that it has changed. Call it in `$effect`. */
  follow(steering: SteeringRequest | null): void {
    const said = JSON.stringify(steering);
    if (!this.busy || this.position !== null || said === this.said) return;
    this.said = said;
    if (this.steering) clearTimeout(this.steering);
    this.steering = setTimeout(() => {
      this.asked?.lanes.forEach((lane, number) => {
        if (lane.follows && lane.state === "writing") this.live.steer(steering, number);
      });
    }, STEER_EVERY);
  }

  /** Goes on with one of the answers. What was not kept becomes a conversation of its own. */
  async goOnWith(number: number): Promise<void> {
    const { round } = this;
    const lane = round?.lanes[number];
    if (!round || !lane) return;
    if (lane.message !== null) {
      await thread.show(lane.message);
    } else {
      const chain: PastMessage[] = [...readBy(round, lane), { role: "assistant", content: lane.text }];
      const body = chainOf(chain, lane.made);
      const made = await ask<Conversation>("POST", "/api/v1/conversations/import", { body });
      await conversations.refresh();
      router.go("chat", [made.id]);
    }
    this.asked = null;
    view.lanes = "steered";
  }

  vote(winner: 0 | 1 | null): void {
    const { round } = this;
    if (!round) return;
    const labels: [string, string] = [round.lanes[0]!.label, round.lanes[1]!.label];
    this.votes = [...this.votes, { at: Date.now(), question: round.question, labels, winner }];
    writeVotes(this.votes);
    this.asked = { ...round, blind: false };
  }

  forgetVotes(): void {
    this.votes = [];
    writeVotes([]);
  }

  /** A lane's answer as a text that can be read. */
  subjectOf(number: number): Subject | null {
    return this.round && subjectOf(this.round, number);
  }

  /** What is known of a lane's tokens along the axis that colours. */
  readingsOf(number: number): readonly (Pair | null)[] {
    const [lane, subject, axis] = [this.round?.lanes[number], this.subjectOf(number), inspect.axis];
    if (!lane || !subject || axis === null) return [];
    return inspect.found(subject.id)?.axes.get(axis)?.pairs ?? pairsOf(lane.tokens, axis);
  }

  private generate(
    to: Pick<Frames["Generate"], "conversation" | "messages">,
    before: PastMessage[],
    question: string,
  ): void {
    const now = shortOf(recipe.active, recipe.scale);
    const lanes = this.choices.map((choice): Lane => {
      const asked = steeringOf(choice, recipe.steering);
      const traced = view.heat ? inspect.traced(asked) : asked;
      return {
        ...{
          text: "",
          tokens: [],
          steering: null,
          changes: [],
          state: "waiting",
          error: null,
          ending: "",
          done: null,
          made: null,
        },
        label: labelOf(choice, now),
        system: choice.kind === "prompt" ? choice.system.trim() : null,
        follows: choice.kind === "recipe",
        asked: traced,
        message: null,
      };
    });
    this.asked = {
      conversation: thread.conversation?.id ?? null,
      ...{ before, question, lanes, seed: null },
      blind: this.blind,
      turned: this.blind && Math.random() < 0.5,
    };
    this.busy = true;
    this.said = JSON.stringify(recipe.steering);
    this.position = 0;
    this.live.generate(
      {
        ...to,
        lanes: lanes.map(({ asked, system }, at) => ({ label: String(at), steering: asked, system })),
        sampling: sampling.asked,
      },
      {
        queued: (frame) => (this.position = frame.waiting),
        start: (frame) => this.begun(frame),
        token: (frame) => this.take(frame),
        steered: ({ lane, from_token }) =>
          this.change(lane, (one) => ({ ...one, changes: [...new Set([...one.changes, from_token])] })),
        done: (frame) => this.finished(frame),
        failed: (lane, error, { answer }) => {
          if (answer) thread.messages.set(answer.id, answer);
          this.change(lane, (one) => ({ ...one, state: "failed", error }));
        },
        end: (error) => this.over(error),
      },
    );
  }

  private begun(frame: Frames["LiveStarted"]): void {
    this.position = null;
    const answers = frame.lanes.map((lane) => lane.answer);
    for (const node of [frame.system, frame.user, ...answers]) if (node) thread.messages.set(node.id, node);
    if (answers[0]) thread.leaf = answers[0].id;
    this.asked = { ...this.asked!, seed: frame.seed };
    for (const { lane, steering, answer } of frame.lanes) {
      this.change(lane, (one) => ({ ...one, steering, message: answer?.id ?? null, state: "writing" }));
    }
    this.follow(recipe.steering); // it may have changed meanwhile
  }

  private finished(frame: Frames["LiveDone"]): void {
    this.showTokens();
    if (frame.answer) thread.messages.set(frame.answer.id, frame.answer);
    const sampled = sampledWith(this.asked?.seed ?? 0);
    const model = server.system?.model?.id ?? "";
    this.change(frame.lane, (one) => ended(one, frame, sampled, model));
  }

  private over(error: ApiError | null): void {
    this.showTokens();
    if (this.steering) clearTimeout(this.steering);
    this.busy = false;
    this.position = null;
    this.problem = error;
    const { asked } = this;
    const none = asked?.lanes.every((lane) => lane.state === "waiting");
    if (error && none) this.asked = null;
    else if (error && asked) {
      const lanes = asked.lanes.map((lane) =>
        lane.state === "done" ? lane : { ...lane, state: "failed" as const },
      );
      this.asked = { ...asked, lanes };
    }
    void conversations.refresh().catch(() => {});
  }

  /** Tokens are shown once a frame, however fast they come. */
  private take(frame: Frames["LiveToken"]): void {
    this.position = null;
    this.unshown.push(frame);
    this.frame ||= requestAnimationFrame(() => this.showTokens());
  }

  private showTokens(): void {
    this.frame = 0;
    const came = this.unshown.splice(0);
    if (!came.length || !this.asked) return;
    const lanes = this.asked.lanes.map((lane, number) => {
      const own = came.filter((frame) => frame.lane === number);
      return own.length ? { ...lane, ...grown(lane, own) } : lane;
    });
    this.asked = { ...this.asked, lanes };
  }

  private change(number: number, change: (lane: Lane) => Lane): void {
    if (!this.asked) return;
    const lanes = this.asked.lanes.map((lane, place) => (place === number ? change(lane) : lane));
    this.asked = { ...this.asked, lanes };
  }
}

export const comparison = new Comparison();
