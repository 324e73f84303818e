/** Notes on the desktop when a job ends and nobody looks at the page. Only where somebody has asked for them. */

import { isUnfinished, stateOf, titleOf } from "../lib/jobs";
import { jobs } from "./jobs.svelte";

const KEY = "persona-steer.notify";

class Notify {
  readonly possible = typeof Notification !== "undefined";
  on = $state(false);
  refused = $state(this.possible && Notification.permission === "denied");

  constructor() {
    this.on = this.possible && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
    jobs.onEnd((job) => {
      if (this.on && document.hidden && !isUnfinished(job))
        new Notification(titleOf(job), { body: job.error?.message ?? stateOf(job), tag: job.id });
    });
  }

  /** To be called on a press: browsers ask the person then. */
  async turn(on: boolean): Promise<void> {
    const answer = on ? await Notification.requestPermission() : "default";
    this.on = answer === "granted";
    this.refused = answer === "denied";
    localStorage.setItem(KEY, this.on ? "on" : "off");
  }
}

export const notify = new Notify();
