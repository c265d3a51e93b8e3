/**
 * The JavaScript SDK of Certes.
 *
 *     import certes from "@certes/sdk";
 *
 *     certes.init("events://events.meetly.com", {app: "billing"});
 *     certes.ensureSubscriptions([certes.event("community.certes.dev/github/1/push")]);
 *     certes.on("community.certes.dev/github/1/push", (event, meta) => console.log(meta.id, event));
 *
 * The default export is one client, and its methods are exported by their names, too.
 */

import { Client } from "./client.js";

const client = new Client();

export default client;

export const init: Client["init"] = client.init.bind(client);
export const event: Client["event"] = client.event.bind(client);
export const ensureSubscriptions: Client["ensureSubscriptions"] = client.ensureSubscriptions.bind(client);
export const on: Client["on"] = client.on.bind(client);
export const run: Client["run"] = client.run.bind(client);
export const expressHandler: Client["expressHandler"] = client.expressHandler.bind(client);
export const nodeHandler: Client["nodeHandler"] = client.nodeHandler.bind(client);
export const fetchHandler: Client["fetchHandler"] = client.fetchHandler.bind(client);
export const sendOutgoingEvent: Client["sendOutgoingEvent"] = client.sendOutgoingEvent.bind(client);
export const publish: Client["publish"] = client.publish.bind(client);
export const publishAll: Client["publishAll"] = client.publishAll.bind(client);
export const register: Client["register"] = client.register.bind(client);
export const close: Client["close"] = client.close.bind(client);

export { Client, type SendOptions } from "./client.js";
export { CertesError, type FieldViolation } from "./errors.js";
export type { EventMeta } from "./event_meta.js";
export type { Handler } from "./handlers.js";
export type { ExpressHandler, FetchHandler, NodeHandler } from "./http_handlers.js";
export type { Logger } from "./logger.js";
export type { CallOptions, EventOptions, EventToPublish, PublishOptions } from "./outgoing.js";
export type { Receipt } from "./publish_calls.js";
export type { Registrable } from "./registered_schemas.js";
export type { CodeName } from "./rpc_status.js";
export type { OptionValue, Selector } from "./selectors.js";
export type { Options } from "./settings.js";
export type { SubscriptionOptions } from "./subscriptions.js";
