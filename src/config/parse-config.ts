import { parse as parseYaml, YAMLParseError } from 'yaml';

import { SpandrelError } from '../core/errors.ts';
import { isJsonObject } from '../core/json/parse-json.ts';
import { type Config, CONFIG_KEYS, type ConfigPath, environmentName } from './config-keys.ts';
import { isUnlikeSoci } from './index-rule.ts';
import { replicaProblems } from './replica-problems.ts';
import { suggestNames } from './suggest-names.ts';
import { ValueProblem } from './value-kinds.ts';

export interface ConfigInput {
  /** Text of the configuration file; empty if there is none. */
  readonly yaml: string;
  /** Environment of the process; only `SPANDREL_*` is read. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** A configuration, and the keys that the file or the environment give; the others have their defaults. */
export interface WrittenConfig {
  readonly config: Config;
  readonly written: ReadonlySet<ConfigPath>;
  /** Those of the file, also where the environment overrides them. */
  readonly inFile: ReadonlySet<ConfigPath>;
}

/** The message for an empty file, which may be about to be written. */
export const NOTHING_WRITTEN = 'the file is empty: write {} to use the defaults';

/**
 * Parses the configuration. The environment overrides the file, which overrides the defaults.
 * @throws SpandrelError CONFIG_INVALID, whose message lists every problem, one a line
 */
export function parseConfig(input: ConfigInput): Config {
  return parseWrittenConfig(input).config;
}

/** As {@link parseConfig}, with the keys that are given. */
export function parseWrittenConfig(input: ConfigInput): WrittenConfig {
  const problems: string[] = [];
  const fromFile = flatten(readYaml(input.yaml, problems), problems);
  const fromEnvironment = readEnvironment(input.environment, problems);
  for (const path of fromFile.keys()) {
    if (!isConfigPath(path)) problems.push(`${path}: ${describeUnknown(path)}`);
  }
  const values = new Map<ConfigPath, unknown>();
  const invalid: ConfigPath[] = [];
  for (const path of Object.keys(CONFIG_KEYS) as ConfigPath[]) {
    const { kind, fallback } = CONFIG_KEYS[path] as {
      kind: { parse(raw: unknown): unknown };
      fallback?: unknown;
    };
    const given = fromEnvironment.get(path) ?? fromFile.get(path) ?? fallback;
    if (given === undefined) continue;
    try {
      values.set(path, kind.parse(given));
    } catch (error) {
      if (!(error instanceof ValueProblem)) throw error;
      if (fallback !== undefined) values.set(path, kind.parse(fallback));
      invalid.push(path);
      const key = fromEnvironment.has(path) ? environmentName(path) : path;
      problems.push(`${key}${error.message.startsWith('[') ? '' : ': '}${error.message}`);
    }
  }
  const config = nest(values);
  problems.push(...contradictions(config).filter((problem) => !isAboutOne(problem, invalid)));
  if (problems.length > 0) {
    const lines = problems.map((line) => `\n  ${line}`).join('');
    throw new SpandrelError('CONFIG_INVALID', `the configuration has ${problems.length} problem(s):${lines}`);
  }
  const inFile = new Set([...fromFile.keys()].filter(isConfigPath));
  return { config, written: new Set([...inFile, ...fromEnvironment.keys()]), inFile };
}

function isConfigPath(path: string): path is ConfigPath {
  return Object.hasOwn(CONFIG_KEYS, path);
}

/** True for keys, for sections of keys, and for the whole. */
function isKnown(path: string): boolean {
  return path === '' || isConfigPath(path) || keysOf(path).length > 0;
}

/** The keys of a section; empty if it is none. */
function keysOf(section: string): string[] {
  return Object.keys(CONFIG_KEYS).filter((key) => key.startsWith(`${section}.`));
}

function describeUnknown(path: string): string {
  const keys = keysOf(path);
  if (keys.length > 0) return `a section, which has the keys ${keys.join(', ')}`;
  return `unknown key${suggestNames(path, NAMES)}`;
}

/** Keys, and sections of keys. */
const NAMES: readonly string[] = [
  ...new Set(
    Object.keys(CONFIG_KEYS).flatMap((key) => {
      const parts = key.split('.');
      return parts.map((_, index) => parts.slice(0, index + 1).join('.'));
    }),
  ),
];

function readYaml(yaml: string, problems: string[]): unknown {
  if (yaml === '') return {};
  try {
    const parsed: unknown = parseYaml(yaml);
    if (isJsonObject(parsed)) return parsed;
    problems.push(parsed === null ? NOTHING_WRITTEN : 'the file is not a map of keys');
    return {};
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    problems.push(`the file is not YAML: ${error.message.split('\n', 1)[0] ?? ''}`);
    return {};
  }
}

/**
 * Keys that restrict access. An empty one is an error: its default would allow what the file means to
 * restrict.
 */
const GUARDS =
  /^(?:access(?:\..*)?|(?:admin|replica)\.token(?:File)?|upstreams|(?:listen|admin)\.tls\.clientCa)$/;

/** True for keys and sections that must have a value if they are written. */
export function isGuard(path: string): boolean {
  return GUARDS.test(path);
}

/**
 * Leaves of a nested object by their dotted path. A leaf is a known key, or any value that is not an object.
 */
function flatten(
  value: unknown,
  problems: string[],
  path = '',
  leaves = new Map<string, unknown>(),
): Map<string, unknown> {
  if (!isJsonObject(value) || isConfigPath(path)) {
    // An empty section, or a key without a value, means the default.
    if ((value !== null && value !== undefined) || !isKnown(path)) leaves.set(path, value);
    else if (isGuard(path)) problems.push(`${path}: has no value`);
    return leaves;
  }
  if (Object.keys(value).length === 0 && !isKnown(path)) leaves.set(path, value);
  for (const [name, child] of Object.entries(value))
    flatten(child, problems, path === '' ? name : `${path}.${name}`, leaves);
  return leaves;
}

function readEnvironment(
  environment: ConfigInput['environment'],
  problems: string[],
): Map<ConfigPath, unknown> {
  const paths = new Map(
    (Object.keys(CONFIG_KEYS) as ConfigPath[]).map((path) => [environmentName(path), path]),
  );
  const values = new Map<ConfigPath, unknown>();
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith('SPANDREL_') || value === undefined) continue;
    const path = paths.get(name);
    if (path === undefined) problems.push(`${name}: unknown key${suggestNames(name, [...paths.keys()])}`);
    else values.set(path, value);
  }
  return values;
}

function nest(values: ReadonlyMap<ConfigPath, unknown>): Config {
  const root: Record<string, unknown> = {};
  for (const path of Object.keys(CONFIG_KEYS) as ConfigPath[]) {
    const names = path.split('.');
    const leaf = names.pop() ?? path;
    let branch = root;
    for (const name of names) branch = (branch[name] ??= {}) as Record<string, unknown>;
    branch[leaf] = values.get(path);
  }
  return root as Config;
}

/** Whether a contradiction names one of `keys`, or its section: it may be due to their missing values. */
function isAboutOne(problem: string, keys: readonly ConfigPath[]): boolean {
  const [subject = ''] = problem.split(':', 1);
  return keys.some((key) => problem.includes(key) || key.startsWith(`${subject}.`));
}

/** Conflicts between values that are valid on their own. */
function contradictions(config: Config): string[] {
  const problems: string[] = [];
  for (const listener of ['listen', 'admin'] as const) {
    const { tls } = config[listener];
    if ((tls.cert === undefined) !== (tls.key === undefined))
      problems.push(`${listener}.tls: cert and key need each other`);
    if (tls.clientCa !== undefined && tls.cert === undefined)
      problems.push(`${listener}.tls.clientCa: needs cert and key`);
  }
  if (config.admin.token !== undefined && config.admin.tokenFile !== undefined)
    problems.push('admin: token and tokenFile exclude each other');
  if (
    config.listen.port !== 0 &&
    config.listen.port === config.admin.port &&
    config.listen.host === config.admin.host
  ) {
    problems.push('admin.port: the registry listener has the same address');
  }
  if (config.ready.redis && config.cache.redis.url === undefined)
    problems.push('ready.redis: needs cache.redis.url');
  for (const name of config.ready.upstreams ?? [])
    if (config.upstreams?.some((upstream) => upstream.name === name) !== true)
      problems.push(`ready.upstreams: there is no upstream ${JSON.stringify(name)}`);
  const { kind, htpasswdFile } = config.access;
  if ((kind === 'htpasswd') !== (htpasswdFile !== undefined))
    problems.push('access: kind htpasswd and htpasswdFile need each other');
  const { key, keyFile } = config.cache.redis;
  if (key !== undefined && keyFile !== undefined)
    problems.push('cache.redis: key and keyFile exclude each other');
  const isShared = config.cache.redis.url !== undefined || config.storage.s3.bucket !== undefined;
  if ((key !== undefined || keyFile !== undefined) && !isShared)
    problems.push('cache.redis.key: needs cache.redis.url or storage.s3.bucket');
  if (config.cache.redis.passwordFile !== undefined) {
    const { url } = config.cache.redis;
    if (url === undefined) problems.push('cache.redis.passwordFile: needs cache.redis.url');
    else if (URL.canParse(url.reveal()) && new URL(url.reveal()).password !== '')
      problems.push('cache.redis: passwordFile and a password in the url exclude each other');
  }
  if (config.cache.redis.cluster && config.cache.redis.url === undefined)
    problems.push('cache.redis.cluster: needs cache.redis.url');
  const redisUrl = config.cache.redis.url?.reveal();
  if (
    redisUrl !== undefined &&
    !/^rediss?:$/.test(URL.canParse(redisUrl) ? new URL(redisUrl).protocol : '')
  ) {
    problems.push('cache.redis.url: expected redis://host:port or rediss://host:port');
  }
  if (config.cache.redis.ca !== undefined && redisUrl?.startsWith('rediss:') !== true)
    problems.push('cache.redis.ca: needs a cache.redis.url that begins with rediss://');
  problems.push(...replicaProblems(config));
  const { bucket, prefix, region, endpoint, forcePathStyle } = config.storage.s3;
  for (const [name, value] of Object.entries({ prefix, region, endpoint, forcePathStyle }))
    if (bucket === undefined && value !== undefined)
      problems.push(`storage.s3.${name}: needs storage.s3.bucket`);
  const { index } = config;
  if (isUnlikeSoci(index)) problems.push('index.bootLayer: the form full has no boot layer');
  for (const [place, rule] of (index.rules ?? []).entries())
    if (!isUnlikeSoci(index) && isUnlikeSoci({ ...index, ...rule }))
      problems.push(`index.rules[${place}]: bootLayer and the form full exclude each other`);
  const upstreams = config.upstreams ?? [];
  for (const field of ['name', 'host'] as const) {
    const seen = new Set<string>();
    for (const upstream of upstreams) {
      if (seen.has(upstream[field])) problems.push(`upstreams: two have the ${field} ${upstream[field]}`);
      seen.add(upstream[field]);
    }
  }
  if (upstreams.filter((upstream) => upstream.default).length > 1)
    problems.push('upstreams: more than one is the default');
  return problems;
}
