/**
 * Publishes several events by one `Publish`: all of them are stored, or none.
 *
 * It is tried again with the same ids, so that what an earlier try has stored is not stored twice. No order is promised with
 * the calls of the stream, beside which it goes.
 */

import { fromBinary } from "@bufbuild/protobuf";
import { PublishResponseSchema } from "../gen/certes/v1/event_service_pb.js";
import type { Span } from "./bytes_span.js";
import { type Clock, TimeLimit } from "./clock.js";
import { clientClosed, type Connection } from "./connection.js";
import { CertesError, errorOfStatus } from "./errors.js";
import { writeJointRequest } from "./event_bytes.js";
import { cancelled, closedMeanwhile, judgeEventSize, type Receipt, timedOut } from "./publish_calls.js";
import { untilAnswered } from "./retrying.js";
import { METHODS } from "./rpc.js";
import { plainStatus } from "./rpc_status.js";

const MOST_EVENTS = 1000;
const MOST_BYTES = 4 * 1024 * 1024;

/** Events that go together. */
export interface JointEvents {
  /** Writes them. It is given the broker's own domain where it needs that. */
  readonly write: (brokerDomain: string) => readonly { readonly span: Span }[];
  readonly count: number;
  readonly needsDomain: boolean;
  /** Milliseconds. */
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

/** The other publishing side of a client. */
export class JointPublisher {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #aborted = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(connection: Connection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  /** Resolves when all events are durable: to their receipts, in their order. */
  async publish(events: JointEvents): Promise<Receipt[]> {
    if (this.#isClosed) throw clientClosed();
    const call = this.#publish(events);
    this.#underWay.add(call);
    return call.finally(() => this.#underWay.delete(call));
  }

  /** Takes no more calls; resolves when those that came have their verdict. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#underWay);
  }

  /** Ends all that is under way. */
  abort(): void {
    this.#isClosed = true;
    this.#aborted.abort();
  }

  async #publish({ write, count, needsDomain, timeout, signal }: JointEvents): Promise<Receipt[]> {
    if (count === 0) return [];
    judgeCount(count);
    const limit = new TimeLimit(this.#clock, timeout, signal, this.#aborted.signal);
    const ended = (trouble: CertesError | undefined): CertesError => {
      if (this.#aborted.signal.aborted) return closedMeanwhile();
      return signal?.aborted ? cancelled(signal) : timedOut(trouble);
    };
    const trying = { connection: this.#connection, clock: this.#clock, signal: limit.signal, ended };
    try {
      const domain = needsDomain ? await untilAnswered(async ({ place }) => place.domain, trying) : "";
      const events = write(domain);
      const request = writeJointRequest(events);
      for (const { span } of events) judgeEventSize(span.end - span.start);
      judgeBytes(request.length);
      return await untilAnswered(
        async (rpc) => readReceipts(await rpc.unary(METHODS.publish, request, limit.left, limit.signal), count),
        trying,
      );
    } finally {
      limit.release();
    }
  }
}

function readReceipts(answer: Uint8Array, count: number): Receipt[] {
  const { results } = fromBinary(PublishResponseSchema, answer);
  // Whatever this is, it does not answer what was asked; what was asked is asked again.
  if (results.length !== count) throw errorOfStatus(plainStatus(14, "the broker's answer is not this request's"));
  return results.map(({ id, duplicate, name }) => ({ id, duplicate, name }));
}

/** Refuses as the broker would, in its words. */
function judgeCount(count: number): void {
  if (count <= MOST_EVENTS) return;
  const problem = `has ${count} events; ${MOST_EVENTS} are allowed in one request`;
  throw new CertesError("INVALID_ARGUMENT", "TOO_MANY_EVENTS", `events: ${problem}`, {
    hint: "Send the rest in further requests.",
    metadata: { field: "events", limit: String(MOST_EVENTS) },
    violations: [{ field: "events", description: problem }],
  });
}

function judgeBytes(bytes: number): void {
  if (bytes <= MOST_BYTES) return;
  throw new CertesError("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", `The request has ${bytes} bytes; ${MOST_BYTES} are allowed.`, {
    hint: "Send fewer events in one request.",
    metadata: { bytes: String(bytes), limit: String(MOST_BYTES) },
  });
}
