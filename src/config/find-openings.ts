import { changedKeys } from './changed-keys.ts';
import type { Config, ConfigPath } from './config-keys.ts';

/** Keys that apply to one `access.kind` only. If the kind changes on purpose, they may go with it. */
const KEYS_OF_KIND: readonly ConfigPath[] = [
  'access.htpasswdFile',
  'access.challenge',
  'access.verdictSeconds',
  'access.staleSeconds',
];

/**
 * Restrictions that `before` has and `next` leaves out, as a truncated file would. One line each, with what
 * to write if the change is intended.
 * @param written the keys that the file or the environment of `next` give
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
      'admin.token is left out: the admin API would require none; write `admin.token: none` if that is ' +
        'intended',
    );
  if (hasUpstreams(before) && !hasUpstreams(next) && !written.has('upstreams'))
    openings.push('upstreams is left out: there would be none; write `upstreams: []` if that is intended');
  return openings;
}

function consequence(path: ConfigPath, access: Config['access']): string {
  if (path === 'access.cidrs')
    return 'every address could connect; write `access.cidrs: ["0.0.0.0/0", "::/0"]` if that is intended';
  const value = (access as Readonly<Record<string, string | number | undefined>>)[
    path.slice('access.'.length)
  ];
  if (value === undefined) return 'write `access.kind` if another kind is intended';
  const effect = path === 'access.kind' ? 'anyone could read' : 'it would have its default';
  return `${effect}; write \`${path}: ${value}\` if that is intended`;
}

function hasToken({ admin }: Config): boolean {
  return admin.token !== undefined || admin.tokenFile !== undefined;
}

function hasUpstreams({ upstreams = [] }: Config): boolean {
  return upstreams.length > 0;
}
