import { SpandrelError } from '../core/errors.ts';

/** A whole number of a query parameter; `undefined` if it is not given. @throws SpandrelError QUERY_INVALID */
export function parseCount(query: URLSearchParams, name: string, maximum: number): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  if (!/^\d{1,9}$/.test(text))
    throw new SpandrelError('QUERY_INVALID', `${name} must be a whole number of at least 0`);
  return Math.min(Number(text), maximum);
}
