/** A broker that does what a test says: the services of the contract over gRPC, and discovery over HTTP. */

import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { EventService } from "../gen/certes/v1/event_service_pb.js";
import { SchemaService } from "../gen/certes/v1/schema_service_pb.js";
import { SubscriptionService } from "../gen/certes/v1/subscription_service_pb.js";

const NAMES = [
  "UpdateSubscription",
  "GetSubscription",
  "GetSigningSecrets",
  "GetSchema",
  "Acknowledge",
  "Subscribe",
  "Publish",
  "PublishStream",
];

/** What comes, in its order; who asks before it comes waits. */
export class Arrivals {
  #come = [];
  #asking = [];

  get waiting() {
    return this.#come.length;
  }

  push(one) {
    const asking = this.#asking.shift();
    if (asking === undefined) this.#come.push(one);
    else asking(one);
  }

  next() {
    if (this.#come.length > 0) return Promise.resolve(this.#come.shift());
    return new Promise((resolve) => this.#asking.push(resolve));
  }
}

/** A refusal of gRPC, with its reason. */
export function refusal(code, reason, { message = `refused: ${reason}`, metadata = {}, retryAfter } = {}) {
  const text = (field, value) => [(field << 3) | 2, value.length, ...Buffer.from(value)];
  const part = (field, bytes) => [(field << 3) | 2, ...lengthOf(bytes.length), ...bytes];
  const any = (name, bytes) => part(3, [...text(1, `type.googleapis.com/google.rpc.${name}`), ...part(2, bytes)]);
  const entries = Object.entries(metadata).flatMap(([key, value]) => part(3, [...text(1, key), ...text(2, value)]));
  const status = [8, code, ...part(2, [...Buffer.from(message)]), ...any("ErrorInfo", [...text(1, reason), ...entries])];
  if (retryAfter !== undefined) status.push(...any("RetryInfo", part(1, [8, retryAfter])));
  const trailers = new Metadata();
  trailers.set("grpc-status-details-bin", Buffer.from(status));
  return Object.assign(new Error(message), { code, details: message, metadata: trailers });
}

function lengthOf(length) {
  return length < 128 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
}

export class FakeBroker {
  /** The calls of each method, as they come. A unary one that has an entry in `answers` is answered by it. */
  calls = Object.fromEntries(NAMES.map((name) => [name, new Arrivals()]));
  /** What unary calls are answered: functions of the request; what they raise is the refusal. */
  answers = {
    UpdateSubscription: ({ subscription }) => ({ subscription }),
    GetSubscription: ({ name }) => ({ subscription: { name } }),
    GetSigningSecrets: () => ({ secrets: this.secrets.map((secret) => ({ secret })) }),
    Acknowledge: () => ({}),
    GetSchema: ({ type }) => {
      const files = this.schemas[type.slice(0, type.lastIndexOf("/"))];
      if (files === undefined) throw refusal(5, "UNKNOWN_EVENT_TYPE");
      return { version: { descriptorSet: create(FileDescriptorSetSchema, { file: files }) } };
    },
  };
  secrets = [];
  schemas = {};
  /** What discovery says instead of the truth. */
  discovery = {};
  asked = 0;
  #open = new Set();

  /** With `clientCa` it asks clients for certificates; with `tls: "grpc"` it is found without TLS. */
  static async start({ tls, key, cert, clientCa, grpcPort = 0, httpPort = 0 } = {}) {
    const broker = new FakeBroker();
    broker.tls = Boolean(tls);
    broker.pair = { key, cert, clientCa };
    await broker.#serveGrpc(grpcPort);
    const asking = clientCa && { ca: clientCa, requestCert: true, rejectUnauthorized: true };
    const serve = tls === true ? (handle) => createTlsServer({ key, cert, ...asking }, handle) : createServer;
    broker.http = serve((request, response) => broker.#discover(response));
    await new Promise((resolve) => broker.http.listen(httpPort, "127.0.0.1", resolve));
    broker.uri = `events://localhost:${broker.http.address().port}`;
    return broker;
  }

  async #serveGrpc(port) {
    this.server = new Server({ "grpc.max_receive_message_length": 4 << 20, "grpc.max_send_message_length": -1 });
    for (const service of [EventService, SchemaService, SubscriptionService]) this.server.addService(...this.#implement(service));
    const { key, cert, clientCa = null } = this.pair;
    const credentials = this.tls
      ? ServerCredentials.createSsl(clientCa, [{ private_key: key, cert_chain: cert }], clientCa !== null)
      : ServerCredentials.createInsecure();
    this.port = await new Promise((resolve, reject) => {
      this.server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
  }

  /** Breaks all connections, as a kill would. */
  async kill() {
    this.server.forceShutdown();
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
  }

  stop() {
    return this.kill();
  }

  #discover(response) {
    this.asked += 1;
    const said = {
      ...{ grpc: { address: `127.0.0.1:${this.port}`, tls: this.tls }, protocolVersions: ["certes.v1"] },
      ...{ domain: "broker.example", domains: [] },
      ...this.discovery,
    };
    response.setHeader("content-type", "application/json").end(JSON.stringify(said));
  }

  #implement(service) {
    const definitions = {};
    const implementations = {};
    for (const method of service.methods.filter(({ name }) => NAMES.includes(name))) {
      const { name, methodKind: kind } = method;
      definitions[name] = {
        path: `/${service.typeName}/${name}`,
        requestStream: kind === "bidi_streaming",
        responseStream: kind !== "unary",
        requestDeserialize: (bytes) => fromBinary(method.input, bytes),
        requestSerialize: (message) => Buffer.from(toBinary(method.input, message)),
        responseSerialize: (init) => (Buffer.isBuffer(init) ? init : Buffer.from(toBinary(method.output, create(method.output, init)))),
        responseDeserialize: (bytes) => fromBinary(method.output, bytes),
      };
      implementations[name] = kind === "unary" ? (call, done) => this.#unary(name, call, done) : (call) => this.#stream(name, call);
    }
    return [definitions, implementations];
  }

  #unary(name, call, done) {
    const arrived = {
      request: call.request,
      metadata: call.metadata,
      answer: (message = {}) => done(null, message),
      refuse: (...refused) => done(refusal(...refused)),
    };
    const answer = this.answers[name];
    this.calls[name].push(arrived);
    if (answer === undefined) return;
    try {
      arrived.answer(answer(call.request));
    } catch (error) {
      done(error);
    }
  }

  #stream(name, call) {
    const requests = new Arrivals();
    const stream = {
      request: call.request,
      metadata: call.metadata,
      /** The common name of the certificate that the client has shown. */
      shown: call.getAuthContext()?.sslPeerCertificate?.subject?.CN,
      requests,
      cancelled: new Promise((resolve) => call.on("cancelled", resolve)),
      finished: new Promise((resolve) => call.on("end", resolve)),
      send: (message) => call.write(message),
      end: () => call.end(),
      refuse: (...refused) => call.emit("error", refusal(...refused)),
    };
    call.on("data", (request) => requests.push(request));
    call.on("error", () => {});
    this.#open.add(stream);
    this.calls[name].push(stream);
  }
}

/** The frame of a batch: each of the events has what `create` takes of a delivery. */
export function batch(firstOrdinal, deliveries) {
  return { frame: { case: "batch", value: { firstOrdinal: BigInt(firstOrdinal), deliveries } } };
}

/** A delivery of a message. */
export function delivery(type, schema, message, event = {}) {
  const value = toBinary(schema, create(schema, message));
  const data = create(AnySchema, { typeUrl: `type.googleapis.com/${schema.typeName}`, value });
  return { name: "events/A", attempt: 1, event: { id: "1", source: "s", type, content: { case: "data", value: data }, ...event } };
}

export const opened = { frame: { case: "opened", value: { stream: "subscribers/default/subscriptions/app/streams/1" } } };
export const heartbeat = { frame: { case: "heartbeat", value: {} } };

/** The files of a schema, each after those it imports, as the broker sends them. */
export function filesOf(schema) {
  const files = new Map();
  const add = (file) => {
    file.dependencies.forEach(add);
    files.set(file.proto.name, file.proto);
  };
  add(schema.file);
  return [...files.values()];
}
