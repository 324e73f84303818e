/** The server's own models by their short names. `schema.d.ts` is generated from docs/openapi.json (`npm run types`). */

import type { components } from "./schema";

export type Schemas = components["schemas"];
export type SteeringRequest = Schemas["SteeringRequest"];
export type AppliedSteering = Schemas["AppliedSteering"];
export type ValidatedSteering = Schemas["ValidatedSteering"];
export type SystemInfo = Schemas["System"];
export type SlotStatus = Schemas["SlotStatus"];
export type PublicJobEvent = Schemas["PublicJobEvent"];
export type LibraryChange = Schemas["LibraryChange"];
export type ConversationChange = Schemas["ConversationChange"];
export type Job = Schemas["Job"];
export type Conversation = Schemas["Conversation"];
export type ConversationPage = Schemas["Page_FoundConversation_"];
export type MessageNode = Schemas["MessageNode"];
export type Transcript = Schemas["Transcript"];
export type FoundConversation = Schemas["FoundConversation"];
export type VectorCard = Schemas["VectorCard"];
export type Archetype = Schemas["Archetype"];
export type BuiltinTrait = Schemas["BuiltinTrait"];
export type JobEstimate = Schemas["JobEstimate"];

/** The frames of the live socket. */
export type Live = Pick<
  Schemas,
  | "Generate"
  | "LiveRequest"
  | "LiveReply"
  | "LiveStarted"
  | "LiveToken"
  | "LiveDone"
  | "LiveError"
  | "SteerAck"
  | "Queued"
>;
export type Interval = Schemas["Interval"];
export type Measurement = Schemas["Measurement"];
export type Sweep = Schemas["Sweep"];
export type Run = Schemas["Run"];
export type Preset = Schemas["Preset"];
export type ListedModel = Schemas["ListedModel"];
export type VectorDetail = Schemas["VectorDetail"];
export type PastMessage = Schemas["PastMessage"];
export type ProjectedText = Schemas["ProjectedText"];
export type Alternatives = Schemas["Alternatives"];
export type ConversationFile = Schemas["ConversationFile-Input"];
export type TextCompletion = Schemas["TextCompletion"];
