import { SpandrelError } from '../../core/errors.ts';

/**
 * A query parameter that is a whole number. A larger one than `maximum` becomes `maximum`.
 * @returns `undefined` if it is missing or empty
 * @throws SpandrelError QUERY_INVALID
 */
export function parseCount(query: URLSearchParams, name: string, maximum: number): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^\d+$/.test(text))
    throw new SpandrelError('QUERY_INVALID', `${name} must be a whole number of at least 0`);
  return Math.min(Number(text), maximum);
}
