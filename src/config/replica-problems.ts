import type { Config } from './config-keys.ts';

/** Conflicts between the `replica` section and other keys. */
export function replicaProblems({ replica, cache, listen }: Config): string[] {
  const { url, token, tokenFile } = replica;
  const problems: string[] = [];
  const ofTls = (['ca', 'serverName'] as const).filter((key) => replica[key] !== undefined);
  const hasToken = token !== undefined || tokenFile !== undefined;
  if (token !== undefined && tokenFile !== undefined)
    problems.push('replica: token and tokenFile exclude each other');
  if (url === undefined) {
    if (hasToken) problems.push('replica.token: needs replica.url');
    for (const key of ofTls) problems.push(`replica.${key}: needs replica.url`);
    return problems;
  }
  if (!hasToken) problems.push('replica.url: needs replica.token or replica.tokenFile');
  if (cache.redis.url === undefined) problems.push('replica.url: needs cache.redis.url');
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  // Without a path, a query and credentials.
  const isOrigin = parsed !== undefined && [parsed.origin, `${parsed.origin}/`].includes(parsed.href);
  if (parsed === undefined || !isOrigin || !/^https?:$/.test(parsed.protocol))
    return [...problems, 'replica.url: expected http://host:port or https://host:port'];
  if (/^(?:0\.0\.0\.0|\[::\])$/.test(parsed.hostname))
    problems.push('replica.url: this address stands for all interfaces; others need one of this machine');
  if (parsed.port === '0' && listen.port !== 0) problems.push('replica.url: port 0 needs listen.port 0');
  if (parsed.protocol !== 'https:')
    for (const key of ofTls) problems.push(`replica.${key}: needs a replica.url that begins with https://`);
  if (listen.tls.cert !== undefined && parsed.protocol !== 'https:')
    problems.push('replica.url: the registry listener has TLS: expected https://');
  return problems;
}
