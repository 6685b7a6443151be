import { isDockerHub } from './is-docker-hub.ts';
import { basicCredentials, type Credentials } from './credentials.ts';
import { Secret } from '../../core/secret.ts';

/** The entry of one registry in `~/.docker/config.json`. */
export interface DockerConfigEntry {
  /** The credential helper, and the key that it is asked for. */
  readonly helper?: { readonly name: string; readonly server: string };
  /** Credentials in the file itself, used without a helper or if the helper has none. */
  readonly credentials?: Credentials;
}

interface RawAuth {
  readonly auth?: unknown;
  readonly username?: unknown;
  readonly password?: unknown;
  readonly identitytoken?: unknown;
  readonly registrytoken?: unknown;
}

/** Key of Docker Hub, in the file and for helpers. */
const HUB_SERVER = 'https://index.docker.io/v1/';

/**
 * Parses the entry of a registry in a Docker configuration. Keys may be URLs, and all names of Docker Hub are
 * equal. As with docker, a helper for the registry takes precedence over the default helper.
 * @param names keys of the registry's credentials, the best one first: hosts, or hosts with a path as in
 * containers-auth.json(5). The first one without a path is the key for the default helper.
 * @throws SyntaxError without any of the text; TypeError if the text is not a configuration
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
  // Docker pads passwords with NUL bytes.
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

/** A path `/v1` or `/v2` is that of the registry API; any other belongs to a repository. */
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
    // The original message quotes the text.
    throw new SyntaxError('not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError('not a JSON object');
  return value as Record<string, unknown>;
}
