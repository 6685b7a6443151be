/**
 * Finds a short list that still fails: leaves out ever smaller pieces as long as it fails without them
 * (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input").
 * @param fails tests a list; never called twice in a row for the same list
 * @param isOver stops the search
 */
export async function shrinkList<T>(
  all: readonly T[],
  fails: (list: readonly T[]) => Promise<boolean>,
  isOver: () => boolean,
): Promise<readonly T[]> {
  let list = all;
  for (let pieces = 2; list.length > 0 && !isOver();) {
    const length = Math.ceil(list.length / pieces);
    let shorter: readonly T[] | undefined;
    // Later actions depend on earlier ones, so pieces at the end are left out first.
    for (
      let start = length * (Math.ceil(list.length / length) - 1);
      start >= 0 && !isOver();
      start -= length
    ) {
      const rest = [...list.slice(0, start), ...list.slice(start + length)];
      if (!(await fails(rest))) continue;
      shorter = rest;
      break;
    }
    if (shorter !== undefined) {
      list = shorter;
      pieces = Math.max(2, pieces - 1);
    } else if (length === 1) break;
    else pieces = Math.min(list.length, 2 * pieces);
  }
  return list;
}
