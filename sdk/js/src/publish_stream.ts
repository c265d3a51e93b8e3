/** One stream of publish requests, from its opening to its end. Answers come in the order of the requests. */

import type { ClientDuplexStream } from "@grpc/grpc-js";
import { fromBinary } from "@bufbuild/protobuf";
import {
  type PublishStreamResponse,
  type PublishStreamResponse_Accepted,
  PublishStreamResponseSchema,
} from "../gen/certes/v1/event_service_pb.js";
import { type CertesError, errorOfProblem, errorOfStatus } from "./errors.js";
import { writeStreamRequest } from "./event_bytes.js";
import type { Request } from "./publish_calls.js";
import { errorOf } from "./rpc.js";
import { plainStatus } from "./rpc_status.js";

/** What a stream tells of. */
export interface StreamEvents {
  /** There is room for another request. */
  readonly drained: () => void;
  /** A request was accepted, and its calls know it, or it was refused by an error. */
  readonly answered: (request: Request, error: CertesError | undefined) => void;
  /** The stream has ended, with these requests unanswered. */
  readonly ended: (stream: PublishStream, unanswered: Request[], error: CertesError) => void;
}

/** The stream. */
export class PublishStream {
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #events: StreamEvents;
  #underWay: Request[] = [];
  #firstId = 1;
  #isWriting = false;
  #hasEnded = false;

  constructor(call: ClientDuplexStream<Buffer, Buffer>, events: StreamEvents) {
    this.#call = call;
    this.#events = events;
    call.on("data", (bytes: Buffer) => this.#take(bytes));
    call.on("error", (error: Error) => this.#end(errorOf(error)));
    call.on("end", () => this.#end(errorOfStatus(plainStatus(14, "the broker ended the stream"))));
  }

  /** The requests that were not answered yet, in their order. */
  get unanswered(): readonly Request[] {
    return this.#underWay;
  }

  /** Whether the last request is written. */
  get isWritable(): boolean {
    return !this.#isWriting && !this.#hasEnded;
  }

  write(request: Request): void {
    const id = this.#firstId + this.#underWay.length;
    this.#underWay.push(request);
    this.#isWriting = true;
    const wantsResults = request.calls.some((call) => call.wantsResult);
    this.#call.write(writeStreamRequest(String(id), request.calls, wantsResults), () => {
      this.#isWriting = false;
      if (!this.#hasEnded) this.#events.drained();
    });
  }

  /** Says that no more requests come. */
  finish(): void {
    this.#call.end();
  }

  cancel(): void {
    this.#hasEnded = true;
    this.#call.cancel();
  }

  #take(bytes: Buffer): void {
    if (this.#hasEnded) return;
    const outcome = this.#read(bytes);
    if (outcome === undefined) {
      // Whatever this is, it does not answer what was asked; what was asked is asked again.
      this.#end(errorOfStatus(plainStatus(14, "the broker's answer is not the next request's")));
      this.#call.cancel();
      return;
    }
    const request = this.#underWay.shift()!;
    this.#firstId += 1;
    if (outcome.case === "accepted") {
      accept(request, outcome.value);
      this.#events.answered(request, undefined);
    } else this.#events.answered(request, errorOfProblem(outcome.value));
  }

  /** The outcome of the next request; nothing if the bytes do not say it. */
  #read(bytes: Buffer): KnownOutcome | undefined {
    try {
      const { requestId, outcome } = fromBinary(PublishStreamResponseSchema, bytes);
      if (this.#underWay.length === 0 || requestId !== String(this.#firstId)) return undefined;
      return outcome.case === undefined ? undefined : outcome;
    } catch {
      return undefined;
    }
  }

  #end(error: CertesError): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#events.ended(this, this.#underWay, error);
  }
}

type KnownOutcome = Exclude<PublishStreamResponse["outcome"], { case: undefined }>;

/** A result concerns whom asked for it: others share the request by chance, and are told what they always are. */
function accept({ calls }: Request, { results }: PublishStreamResponse_Accepted): void {
  for (let index = 0; index < calls.length; index += 1) {
    const call = calls[index]!;
    const result = call.wantsResult ? results[index] : undefined;
    call.accept(result?.duplicate ?? false, result?.name ?? "");
  }
}
