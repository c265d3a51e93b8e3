/** A clock that stands still until a test moves it. */

export class ManualClock {
  time;
  /** What chance says. */
  luck = 0.5;
  #waiting = [];
  #changed = [];

  constructor(time = 1764221727000) {
    this.time = time;
  }

  now = () => this.time;
  chance = () => this.luck;

  after(milliseconds, wake) {
    const entry = { due: this.time + milliseconds, wake };
    this.#waiting.push(entry);
    for (const resolve of this.#changed.splice(0)) resolve();
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== entry);
    };
  }

  /** How long each of those who wait has still to wait, in milliseconds, ascending. */
  get waits() {
    return this.#waiting.map(({ due }) => due - this.time).sort((a, b) => a - b);
  }

  /** Resolves when somebody waits for so long. */
  async whenWaiting(milliseconds) {
    while (!this.waits.includes(milliseconds)) await new Promise((resolve) => this.#changed.push(resolve));
  }

  /** Goes from wait to wait until a promise is settled; waits that are longer than some milliseconds are left alone. */
  async advanceUntil(promise, longest = 11_000) {
    let isSettled = false;
    const settled = promise.finally(() => (isSettled = true)).catch(() => {});
    while (!isSettled) {
      const [wait = Infinity] = this.waits;
      if (wait <= longest) this.advance(wait);
      let changed;
      const change = new Promise((resolve) => this.#changed.push((changed = resolve)));
      if ((this.waits[0] ?? Infinity) > longest) await Promise.race([settled, change]);
      changed();
    }
    return promise;
  }

  /** Goes forward, and wakes those whose time has come, in its order. */
  advance(milliseconds) {
    const end = this.time + milliseconds;
    for (;;) {
      const [next] = this.#waiting.filter(({ due }) => due <= end).sort((a, b) => a.due - b.due);
      if (next === undefined) break;
      this.#waiting = this.#waiting.filter((other) => other !== next);
      this.time = next.due;
      next.wake();
    }
    this.time = end;
  }
}
