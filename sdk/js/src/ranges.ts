/** Ordinals that were settled, as the fewest ranges that say so. */

/** Consecutive ordinals; both ends belong to it. */
export type Range = readonly [first: number, last: number];

/** The fewest ranges that hold exactly these ordinals, ascending. The ordinals may come in any order, and twice. */
export function rangesOf(ordinals: readonly number[]): Range[] {
  const ranges: [number, number][] = [];
  for (const ordinal of inOrder(ordinals)) {
    const last = ranges.at(-1);
    if (last !== undefined && ordinal <= last[1] + 1) last[1] = ordinal;
    else ranges.push([ordinal, ordinal]);
  }
  return ranges;
}

/** The first `maximum` ranges, which go now, and the ordinals that go later. */
export function cutRanges(ordinals: readonly number[], maximum: number): { now: Range[]; later: number[] } {
  const ranges = rangesOf(ordinals);
  if (ranges.length <= maximum) return { now: ranges, later: [] };
  const [firstLater] = ranges[maximum]!;
  return { now: ranges.slice(0, maximum), later: inOrder(ordinals).filter((ordinal) => ordinal >= firstLater) };
}

/** Most ordinals are settled in their order, and to see that costs less than to sort them. */
function inOrder(ordinals: readonly number[]): readonly number[] {
  for (let index = 1; index < ordinals.length; index += 1) {
    if (ordinals[index]! < ordinals[index - 1]!) return ordinals.toSorted((a, b) => a - b);
  }
  return ordinals;
}
