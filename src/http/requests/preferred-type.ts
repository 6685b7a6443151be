import Negotiator from 'negotiator';

/** The media type of `offered` that an Accept header prefers; the first one if it accepts none of them. */
export function preferredType<T extends string>(
  accept: string | undefined,
  offered: readonly [T, ...(readonly T[])],
): T {
  const preferred = new Negotiator({ headers: { accept } }).mediaType(offered);
  return offered.find((type) => type === preferred) ?? offered[0];
}
