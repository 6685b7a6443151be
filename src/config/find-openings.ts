import { changedKeys } from './changed-keys.ts';
import type { Config, ConfigPath } from './config-keys.ts';

/** Keys that only have a meaning together with `access.kind`: who writes another kind has said enough. */
const KEYS_OF_KIND: readonly ConfigPath[] = [
  'access.htpasswdFile',
  'access.challenge',
  'access.verdictSeconds',
  'access.staleSeconds',
];

/**
 * What would open because `next` leaves out what `before` has: a file that has been cut off looks like that. A line for each, with
 * what to write if it is meant; `written` are the keys that the file or the environment of `next` give.
 */
export function findOpenings(before: Config, next: Config, written: ReadonlySet<ConfigPath>): string[] {
  const openings: string[] = [];
  const isOtherKind = written.has('access.kind') && before.access.kind !== next.access.kind;
  for (const path of changedKeys(before, next)) {
    if (!path.startsWith('access.') || written.has(path)) continue;
    if (isOtherKind && KEYS_OF_KIND.includes(path)) continue;
    openings.push(`${path} is left out: ${consequence(path, next.access)}`);
  }
  if (hasToken(before) && !hasToken(next) && !written.has('admin.token'))
    openings.push(
      'admin.token is left out: the operations listener would want none; write `admin.token: none` if that is meant',
    );
  if (hasUpstreams(before) && !hasUpstreams(next) && !written.has('upstreams'))
    openings.push('upstreams is left out: there would be none; write `upstreams: []` if that is meant');
  return openings;
}

function consequence(path: ConfigPath, access: Config['access']): string {
  if (path === 'access.cidrs')
    return 'every address could connect; write `access.cidrs: ["0.0.0.0/0", "::/0"]` if that is meant';
  const value = (access as Readonly<Record<string, string | number | undefined>>)[
    path.slice('access.'.length)
  ];
  if (value === undefined) return 'write `access.kind` if another kind is meant';
  const effect = path === 'access.kind' ? 'everybody could read' : 'it would have its default';
  return `${effect}; write \`${path}: ${value}\` if that is meant`;
}

function hasToken({ admin }: Config): boolean {
  return admin.token !== undefined || admin.tokenFile !== undefined;
}

function hasUpstreams({ upstreams = [] }: Config): boolean {
  return upstreams.length > 0;
}
