import { isDockerHub } from './is-docker-hub.ts';
import { basicCredentials, type Credentials } from './credentials.ts';
import { Secret } from '../../core/secret.ts';

/** What `~/.docker/config.json` says of one registry. */
export interface DockerConfigEntry {
  /** Credential helper to ask, and what it is asked for. */
  readonly helper?: { readonly name: string; readonly server: string };
  /** What the file itself has; for use where there is no helper or it has nothing. */
  readonly credentials?: Credentials;
}

interface RawAuth {
  readonly auth?: unknown;
  readonly username?: unknown;
  readonly password?: unknown;
  readonly identitytoken?: unknown;
  readonly registrytoken?: unknown;
}

/** The key of Docker Hub, in the file and for helpers. */
const HUB_SERVER = 'https://index.docker.io/v1/';

/**
 * Read a Docker configuration for a registry. `names` are what its credentials may be kept under, the best one first: hosts, or hosts
 * with a path as in the `auth.json` of containers-auth.json(5); the first that is no path is what a helper for all is asked for. Keys may
 * be URLs; all names of Docker Hub are one. A helper for the registry goes before the one for all, as with docker itself.
 * @throws SyntaxError without any of the text, TypeError for what is no configuration
 */
export function parseDockerConfig(text: string, names: readonly string[]): DockerConfigEntry {
  const config = parseObject(text);
  const auths = asObject(config['auths']);
  const helpers = asObject(config['credHelpers']);
  const key = findKey(auths, names);
  const helperKey = findKey(helpers, names);
  const host = names.find((candidate) => !candidate.includes('/')) ?? '';
  const name = helperKey === undefined ? config['credsStore'] : helpers[helperKey];
  const server = helperKey ?? key ?? (isDockerHub(host) ? HUB_SERVER : host);
  const credentials = key === undefined ? undefined : readAuth(asObject(auths[key]));
  return {
    ...(typeof name === 'string' && name !== '' ? { helper: { name, server } } : {}),
    ...(credentials === undefined ? {} : { credentials }),
  };
}

function readAuth({
  auth,
  username,
  password,
  identitytoken,
  registrytoken,
}: RawAuth): Credentials | undefined {
  if (isText(identitytoken)) return { kind: 'identity-token', token: new Secret(identitytoken) };
  if (isText(registrytoken)) return { kind: 'bearer', authorization: new Secret(`Bearer ${registrytoken}`) };
  if (isText(username) && typeof password === 'string') return basicCredentials(username, password);
  if (!isText(auth)) return undefined;
  const pair = Buffer.from(auth, 'base64').toString();
  const colon = pair.indexOf(':');
  // Docker pads passwords with zero bytes.
  return colon < 1
    ? undefined
    : basicCredentials(pair.slice(0, colon), pair.slice(colon + 1).replace(/\0+$/, ''));
}

function findKey(entries: Record<string, unknown>, names: readonly string[]): string | undefined {
  const keys = Object.keys(entries);
  for (const name of names) {
    const key = keys.find((candidate) => isSameRegistry(candidate, name));
    if (key !== undefined) return key;
  }
  return undefined;
}

/** The paths `/v1` and `/v2` are those of the registry API, any other is one of a repository. */
function isSameRegistry(key: string, name: string): boolean {
  const named = key
    .toLowerCase()
    .replace(/^https?:\/\//, '')
    .replace(/\/+$/, '')
    .replace(/\/v[12]$/, '')
    .replace(/:443$/, '');
  return named === name.toLowerCase() || (isDockerHub(named) && isDockerHub(name));
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The original's message quotes the text.
    throw new SyntaxError('no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError('no JSON object');
  return value as Record<string, unknown>;
}
