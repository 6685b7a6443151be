import { SpandrelError } from '../../core/errors.ts';
import { isHost } from './request-target.ts';

/**
 * The registry that a client names in `?ns=` (distribution spec, "Registry proxying").
 * @throws SpandrelError QUERY_INVALID for two different ones: two readers could choose differently; DENIED
 * for a text that is not a host: it could become one in lower case (U+212A becomes `k`), and must not reach
 * a header
 */
export function parseNamespace(query: URLSearchParams): string | undefined {
  const [namespace, ...others] = new Set(query.getAll('ns'));
  if (others.length > 0) throw new SpandrelError('QUERY_INVALID', '`ns` is given twice');
  if (namespace !== undefined && !isHost(namespace))
    throw new SpandrelError('DENIED', 'the registry in `ns` is not an upstream of this proxy');
  return namespace;
}
