// Compiled, never run: what a user of the package writes in TypeScript.
import { create, type Message } from "@bufbuild/protobuf";
import { github as gh, slack } from "@certes/contrib";
import { type Opts, PushEventSchema } from "@certes/contrib/github";

declare const raw: Message;
const event = raw as gh.PushEvent;
const ref: string = event.ref;
export const made: gh.PushEvent = create(gh.PushEventSchema, { ref });
export const same: gh.PushEvent = create(PushEventSchema, { ref });
export const issues: Opts = { repo: "meetly/app", org: undefined };
export const direct: slack.Opts = { channel_type: "im" };

// What the SDK takes is any record; a type of options must be one.
export const record: Readonly<Record<string, string | number | bigint | boolean | undefined>> = issues;

// @ts-expect-error no event type of GitHub has it
export const unknown: gh.Opts = { repository: "meetly/app" };
// @ts-expect-error it is a text
export const mistyped: gh.Opts = { repo: 1 };
// @ts-expect-error there is no such message
export type Misspelled = gh.PushEvnt;
