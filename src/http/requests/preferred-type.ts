/**
 * Which of the `offered` media types an Accept header prefers (RFC 9110, section 12.5.1): the first of them where it prefers none, or takes
 * none.
 */
export function preferredType<T extends string>(
  accept: string | undefined,
  offered: readonly [T, ...(readonly T[])],
): T {
  const ranges = (accept ?? '*/*').split(',').map((text) => {
    const [range = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    return { range, quality: quality === undefined ? 1 : Number(quality) || 0 };
  });
  const qualityOf = (type: T): number => {
    const [main = ''] = type.split('/');
    const matching = [type, `${main}/*`, '*/*'].flatMap((wanted) =>
      ranges.filter(({ range }) => range === wanted),
    );
    return matching[0]?.quality ?? 0;
  };
  return offered.reduce((best, type) => (qualityOf(type) > qualityOf(best) ? type : best), offered[0]);
}
