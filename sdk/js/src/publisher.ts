/**
 * Publishes events: one stream carries all calls.
 *
 * Theory of operation
 * -------------------
 * A call puts its event into the queue (`coalescing.ts`), or waits for room in it. When the calls of this turn of the event
 * loop have come, the last request is written, and the queue says that the next is due, that takes what waits. Answers come
 * in the order of the requests. A request keeps its events, and their keys, until each has its verdict:
 *
 * * accepted: the calls return;
 * * refused for now (`retryable`), or under way when the stream broke: sent again with the same ids, after a wait;
 * * refused: with one event, that is its verdict; with several, each is told again in a request of its own.
 *
 * A call that gives up (its time is over, its signal is aborted) has its verdict then, but its event stays under way until
 * an answer comes or the stream breaks: it may be stored.
 */

import { reconnectWait } from "./backoff.js";
import type { Clock } from "./clock.js";
import { PublishQueue } from "./coalescing.js";
import { clientClosed, type Connection } from "./connection.js";
import { isBroken } from "./delivery_stream.js";
import { asCertesError, type CertesError } from "./errors.js";
import { type Call, closedMeanwhile, Request, timedOut } from "./publish_calls.js";
import { PublishStream } from "./publish_stream.js";
import { METHODS } from "./rpc.js";

/** The publishing side of a client. */
export class Publisher {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #queue = new PublishQueue<Call>();
  /** Calls that wait for room in the queue, in their order. */
  #outside: Call[] = [];
  /** Requests to be sent again, before anything new. */
  #again: Request[] = [];
  /** Requests that wait for their time to be sent again. */
  readonly #resting = new Set<Request>();
  /** Calls that are to be told again alone, each behind the one of its key that is told. */
  readonly #lines = new Set<Call[]>();
  #stream: PublishStream | undefined;
  #isOpening = false;
  #isFlushing = false;
  #attempts = 0;
  #lastTrouble: CertesError | undefined;
  #cancelWatch: (() => void) | undefined;
  #watchUntil = Infinity;
  #isClosed = false;
  #idle: (() => void)[] = [];
  readonly #cancelWaits = new Set<() => void>();

  constructor(connection: Connection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  /** Sends an event. Its `done` has the verdict. */
  submit(call: Call): void {
    if (this.#isClosed) return call.refuse(clientClosed());
    if (this.#outside.length === 0 && this.#queue.hasRoom(call.size)) this.#queue.add(call);
    else this.#outside.push(call);
    this.#watch(call.deadline);
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      // After the promises of this turn: the calls that they make go along.
      process.nextTick(() => {
        this.#isFlushing = false;
        this.#flush();
      });
    }
  }

  /** A call gives up. */
  giveUp(call: Call, error: CertesError): void {
    if (call.isDecided) return;
    call.refuse(error);
    this.#forget();
  }

  /** Takes no more calls; resolves when those that came have their verdict. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (!this.#isIdle) await new Promise<void>((resolve) => this.#idle.push(resolve));
    this.#stream?.finish();
  }

  /** Ends all that is under way. */
  abort(): void {
    this.#isClosed = true;
    for (const cancel of this.#cancelWaits) cancel();
    this.#cancelWatch?.();
    for (const call of this.#undecided()) call.refuse(closedMeanwhile());
    this.#stream?.cancel();
    this.#stream = undefined;
    this.#forget();
  }

  get #isIdle(): boolean {
    return this.#queue.waiting + this.#queue.underWay + this.#outside.length === 0;
  }

  /** Writes what there is, one request after another, for as long as there is room in the stream. */
  #flush(): void {
    const stream = this.#stream;
    if (stream === undefined) {
      if (!this.#isIdle) this.#open();
      return;
    }
    while (stream.isWritable) {
      const request = this.#again.shift() ?? this.#next(stream.unanswered.length);
      if (request === undefined) return;
      stream.write(request);
    }
  }

  #next(unanswered: number): Request | undefined {
    if (!this.#queue.isDue(unanswered)) return undefined;
    const calls = this.#queue.take();
    this.#letIn();
    if (calls.length === 0) return undefined;
    return new Request(calls, () => this.#settle(calls));
  }

  #settle(calls: readonly Call[]): void {
    this.#queue.answered(calls);
    if (this.#isIdle) {
      this.#cancelWatch?.();
      this.#cancelWatch = undefined;
      for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  #letIn(): void {
    let count = 0;
    while (count < this.#outside.length && this.#queue.hasRoom(this.#outside[count]!.size))
      this.#queue.add(this.#outside[count++]!);
    if (count > 0) this.#outside = this.#outside.slice(count);
  }

  #open(): void {
    if (this.#isOpening) return;
    this.#isOpening = true;
    this.#connection.rpc().then(
      (rpc) => {
        this.#isOpening = false;
        if (this.#isIdle) return;
        this.#stream = new PublishStream(rpc.duplexStream(METHODS.publishStream), {
          drained: () => this.#flush(),
          answered: (request, error) => this.#answered(request, error),
          ended: (stream, unanswered, error) => this.#ended(stream, unanswered, error),
        });
        this.#flush();
      },
      (raised: unknown) => {
        this.#isOpening = false;
        this.#broke([], asCertesError(raised));
      },
    );
  }

  #answered(request: Request, error: CertesError | undefined): void {
    this.#attempts = 0;
    if (error === undefined) request.settled();
    else if (error.retryable) this.#rest(request, error);
    else if (request.calls.length === 1) {
      request.calls[0]!.refuse(error);
      request.settled();
    } else this.#isolate(request);
    this.#scheduleFlush();
  }

  /** Answers come several in one turn; one flush serves them all. */
  #scheduleFlush(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    process.nextTick(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  /** Tells the events of a refused request again, each alone: those of one key one after another, all others at once. */
  #isolate(request: Request): void {
    const lines = new Map<string | Call, Call[]>();
    for (const call of request.calls) {
      const line = lines.get(call.key || call);
      if (line === undefined) lines.set(call.key || call, [call]);
      else line.push(call);
    }
    let left = lines.size;
    const next = (line: Call[]): void => {
      let call = line.shift();
      while (call?.isDecided) call = line.shift();
      if (call !== undefined) {
        this.#again.push(new Request([call], () => next(line)));
        return;
      }
      this.#lines.delete(line);
      if ((left -= 1) === 0) request.settled();
    };
    for (const line of lines.values()) {
      this.#lines.add(line);
      next(line);
    }
  }

  /** Sends a request again after a wait. */
  #rest(request: Request, error: CertesError): void {
    request.attempts += 1;
    this.#lastTrouble = error;
    this.#resting.add(request);
    this.#later(error.retryAfter ?? reconnectWait(request.attempts, this.#clock.chance()), () => {
      // All its calls gave up meanwhile, and it was settled then.
      if (!this.#resting.delete(request)) return this.#flush();
      if (this.#stillWanted(request)) this.#again.push(request);
      this.#flush();
    });
  }

  #ended(stream: PublishStream, unanswered: Request[], error: CertesError): void {
    if (this.#stream !== stream) return;
    this.#stream = undefined;
    this.#broke(unanswered, error);
  }

  /** The stream broke, or there was none to be had. */
  #broke(unanswered: Request[], raised: CertesError): void {
    const error = this.#connection.refusal(raised);
    this.#lastTrouble = error;
    this.#sift([...unanswered, ...this.#again]);
    if (!error.retryable && !isBroken(error)) {
      // Refused, which waiting does not mend: it is the verdict of all who would have used the stream.
      for (const call of this.#undecided()) call.refuse(error);
      this.#forget();
      return;
    }
    this.#connection.lost();
    this.#attempts += 1;
    if (this.#isIdle) return;
    this.#isOpening = true;
    const wait = Math.max(error.retryAfter ?? 0, reconnectWait(this.#attempts, this.#clock.chance()));
    this.#later(wait, () => {
      this.#isOpening = false;
      this.#flush();
    });
  }

  /** Leaves out the events of a request whose calls gave up. False, and settled, if there is none left. */
  #stillWanted(request: Request): boolean {
    request.calls = request.calls.filter((call) => !call.isDecided);
    if (request.calls.length > 0) return true;
    request.settled();
    return false;
  }

  /** Makes of some requests those to be sent again. One that is wanted no more may have another behind it. */
  #sift(requests: readonly Request[]): void {
    this.#again = [];
    const wanted = requests.filter((request) => this.#stillWanted(request));
    this.#again = [...wanted, ...this.#again];
  }

  /** Lets go of events that were not sent yet, or are to be sent again, and whose calls have their verdict. */
  #forget(): void {
    this.#queue.drop((call) => call.isDecided);
    this.#outside = this.#outside.filter((call) => !call.isDecided);
    this.#sift(this.#again);
    for (const request of this.#resting) if (!this.#stillWanted(request)) this.#resting.delete(request);
    this.#letIn();
    if (this.#isIdle) for (const resolve of this.#idle.splice(0)) resolve();
    // What stood behind an event that was let go of may go now.
    if (this.#stream !== undefined) this.#scheduleFlush();
  }

  #undecided(): Call[] {
    const requests = [...this.#again, ...this.#resting, ...(this.#stream?.unanswered ?? [])];
    return [...requests.flatMap(({ calls }) => calls), ...[...this.#lines].flat(), ...this.#queue.waitingEvents(), ...this.#outside].filter(
      (call) => !call.isDecided,
    );
  }

  /** Wakes when the first of the calls has to give up. One timer serves them all. */
  #watch(deadline: number): void {
    if (this.#cancelWatch !== undefined && deadline >= this.#watchUntil) return;
    this.#cancelWatch?.();
    this.#watchUntil = deadline;
    this.#cancelWatch = this.#clock.after(Math.max(0, deadline - this.#clock.now()), () => {
      this.#cancelWatch = undefined;
      this.#watchUntil = Infinity;
      const now = this.#clock.now();
      let first = Infinity;
      for (const call of this.#undecided()) {
        if (call.deadline <= now) call.refuse(timedOut(this.#lastTrouble));
        else first = Math.min(first, call.deadline);
      }
      this.#forget();
      if (first < Infinity) this.#watch(first);
    });
  }

  #later(seconds: number, act: () => void): void {
    const cancel = this.#clock.after(seconds * 1000, () => {
      this.#cancelWaits.delete(cancel);
      act();
    });
    this.#cancelWaits.add(cancel);
  }
}
