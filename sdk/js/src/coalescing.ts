/**
 * The queue of events to publish: decides what the next request carries.
 *
 * Rules
 * -----
 * * There is no linger: whatever waits goes out as the next request, up to the limits below. Only while a few requests are
 *   unanswered does the next one wait, until it is full or one of them is answered: the stream takes what it is given at
 *   once, so that writing alone would let nothing queue up, and requests of single events are what costs a broker most.
 * * Of one ordering key at most one request is under way, so that the order of a key is that of the calls, also where one
 *   is tried again. An event whose key is held back is passed over by later ones of other keys; when its key is free it
 *   goes before what came after it.
 * * What waits is bounded; `hasRoom` says whether a call has to wait.
 *
 * Theory of operation
 * -------------------
 * Events have numbers in the order of their calls. Those that may go wait in `ready`, in that order. Those whose key is
 * held wait in a line of their own; when the key is free, its line is merged back by number. So a take costs what it takes,
 * however many wait behind keys.
 */

/** An event that waits. `key` is its ordering key, empty for none. */
export interface Waiting {
  readonly size: number;
  readonly key: string;
}

export const LIMITS = {
  fewRequests: 4,
  requestEvents: 64,
  requestBytes: 1024 * 1024,
  underWayEvents: 1024,
  underWayBytes: 8 * 1024 * 1024,
  waitingEvents: 10_000,
  waitingBytes: 32 * 1024 * 1024,
} as const;

interface Numbered<E> {
  readonly number: number;
  readonly event: E;
}

/** Events that wait and events that are under way. It does no I/O, and knows no time. */
export class PublishQueue<E extends Waiting> {
  #ready: Numbered<E>[] = [];
  /** How many of `#ready` were taken already: to cut off its head at every take would move all the rest each time. */
  #taken = 0;
  readonly #held = new Map<string, Numbered<E>[]>();
  #next = 0;
  #readyBytes = 0;
  #waitingEvents = 0;
  #waitingBytes = 0;
  #underWayEvents = 0;
  #underWayBytes = 0;

  /** How many events wait. */
  get waiting(): number {
    return this.#waitingEvents;
  }

  /** How many events are under way. */
  get underWay(): number {
    return this.#underWayEvents;
  }

  /** Whether an event of a size may wait; one always may where none does, whatever its size. */
  hasRoom(size: number): boolean {
    if (this.#waitingEvents === 0) return true;
    return this.#waitingEvents < LIMITS.waitingEvents && this.#waitingBytes + size <= LIMITS.waitingBytes;
  }

  /** Whether the next request is to go while so many are unanswered: where they are few, or it is full. */
  isDue(unanswered: number): boolean {
    if (unanswered < LIMITS.fewRequests) return true;
    return this.#ready.length - this.#taken >= LIMITS.requestEvents || this.#readyBytes >= LIMITS.requestBytes;
  }

  /** Lets an event wait. */
  add(event: E): void {
    const entry = { number: this.#next++, event };
    this.#waitingEvents += 1;
    this.#waitingBytes += event.size;
    const line = event.key === "" ? undefined : this.#held.get(event.key);
    if (line === undefined) this.#makeReady(entry);
    else line.push(entry);
  }

  /** Takes the events of the next request; they are under way then. None if nothing may go. */
  take(): E[] {
    const request: E[] = [];
    const keys = new Set<string>();
    let bytes = 0;
    while (this.#taken < this.#ready.length && request.length < LIMITS.requestEvents) {
      const entry = this.#ready[this.#taken]!;
      const { event } = entry;
      if (event.key !== "" && !keys.has(event.key)) {
        const line = this.#held.get(event.key);
        if (line !== undefined) {
          line.push(entry);
          this.#taken += 1;
          this.#readyBytes -= event.size;
          continue;
        }
      }
      if (request.length > 0 && bytes + event.size > LIMITS.requestBytes) break;
      if (!this.#mayGo(request.length + 1, bytes + event.size)) break;
      if (event.key !== "") keys.add(event.key);
      request.push(event);
      bytes += event.size;
      this.#taken += 1;
    }
    for (const key of keys) this.#held.set(key, []);
    this.#compact();
    this.#waitingEvents -= request.length;
    this.#waitingBytes -= bytes;
    this.#readyBytes -= bytes;
    this.#underWayEvents += request.length;
    this.#underWayBytes += bytes;
    return request;
  }

  /** Lets go of a request that was answered, and frees its keys. */
  answered(request: readonly E[]): void {
    let freed: Numbered<E>[] | undefined;
    for (const event of request) {
      this.#underWayEvents -= 1;
      this.#underWayBytes -= event.size;
      const line = event.key === "" ? undefined : this.#held.get(event.key);
      if (line === undefined) continue;
      this.#held.delete(event.key);
      if (line.length > 0) (freed ??= []).push(...line);
    }
    if (freed === undefined) return;
    this.#ready = this.#ready.slice(this.#taken);
    this.#taken = 0;
    for (const entry of freed) this.#makeReady(entry);
    this.#ready.sort((a, b) => a.number - b.number);
  }

  /** The events that wait, in no order. */
  waitingEvents(): E[] {
    const held = [...this.#held.values()].flat();
    return [...this.#ready.slice(this.#taken), ...held].map(({ event }) => event);
  }

  /** Takes out what waits and is of no use any more, such as events whose callers have given up. */
  drop(isUseless: (event: E) => boolean): E[] {
    const dropped: E[] = [];
    const keep = (entry: Numbered<E>): boolean => {
      if (!isUseless(entry.event)) return true;
      dropped.push(entry.event);
      return false;
    };
    const ready = this.#ready.slice(this.#taken);
    this.#ready = [];
    this.#taken = 0;
    this.#readyBytes = 0;
    for (const entry of ready) if (keep(entry)) this.#makeReady(entry);
    for (const [key, line] of this.#held) this.#held.set(key, line.filter(keep));
    for (const { size } of dropped) {
      this.#waitingEvents -= 1;
      this.#waitingBytes -= size;
    }
    return dropped;
  }

  #makeReady(entry: Numbered<E>): void {
    this.#ready.push(entry);
    this.#readyBytes += entry.event.size;
  }

  /** A larger event than all that may be under way goes alone. */
  #mayGo(events: number, bytes: number): boolean {
    if (this.#underWayEvents + events > LIMITS.underWayEvents) return false;
    return this.#underWayBytes + bytes <= LIMITS.underWayBytes || this.#underWayEvents + events === 1;
  }

  #compact(): void {
    if (this.#taken === this.#ready.length) {
      this.#ready = [];
      this.#taken = 0;
    } else if (this.#taken > 4096) {
      this.#ready.splice(0, this.#taken);
      this.#taken = 0;
    }
  }
}
