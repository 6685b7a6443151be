import { type OutboundProxy, outboundProxy } from '../../config/outbound-proxy.ts';
import { ValueProblem } from '../../config/value-kinds.ts';
import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import { NoProxy } from './no-proxy.ts';

/** Environment variables. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The outbound proxy for a URL; `undefined` for a direct connection. */
export type ProxyChoice = (url: URL) => OutboundProxy | undefined;

/**
 * Chooses the outbound proxy for an upstream and the hosts that it leads to: its configured `proxy` for
 * everything, else what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say; lower-case names take precedence.
 * Loopback is never reached through a proxy of the environment.
 * @throws SpandrelError CONFIG_INVALID if a variable is not a proxy URL
 */
export function createProxyChoice(own: OutboundProxy | undefined, environment: Environment): ProxyChoice {
  if (own !== undefined) return () => own;
  const https = readProxy(environment, 'HTTPS_PROXY');
  const http = readProxy(environment, 'HTTP_PROXY');
  const excepted = new NoProxy(readVariable(environment, 'NO_PROXY') ?? '');
  return (url) => {
    const proxy = url.protocol === 'https:' ? https : http;
    return proxy === undefined || isLoopback(url.hostname) || excepted.has(url) ? undefined : proxy;
  };
}

function readVariable(environment: Environment, name: string): string | undefined {
  return [environment[name.toLowerCase()], environment[name]].find(
    (text) => text !== undefined && text.trim() !== '',
  );
}

function readProxy(environment: Environment, name: string): OutboundProxy | undefined {
  const text = readVariable(environment, name);
  try {
    return text === undefined ? undefined : outboundProxy.parse(text);
  } catch (error) {
    if (!(error instanceof ValueProblem)) throw error;
    throw new SpandrelError('CONFIG_INVALID', `${name}: ${error.message}`);
  }
}
