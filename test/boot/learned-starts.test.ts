import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { gzipped, startInflating } from '../helpers/images/inflated-image.ts';
import { ManualStartClock } from '../helpers/starts/manual-start-clock.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { runInProcess } from '../helpers/run-in-process.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { SnapshotterClient } from '../helpers/clients/snapshotter-client.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const REPOSITORY = 'team/app';

function noise(seed: number, bytes: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Array.from({ length: bytes }, () => random() * 256));
}

const BASE = gzipped(tarArchive({ 'lib/unused': noise(2, 300_000), 'lib/used': noise(3, 100_000) }));
const APP = gzipped(tarArchive({ 'bin/app': noise(1, 100_000), 'bin/other': noise(4, 200_000) }));
const NEXT_APP = gzipped(tarArchive({ 'bin/new': noise(6, 50_000), 'bin/app': noise(5, 100_000) }));

let upstream: ImageUpstream;
let app: RunningApp;
let root: string;
const clock = new ManualStartClock();

/** A container of an image starts on a node of its own, and reads these files. */
async function startContainer(
  files: readonly string[],
  { tag = 'latest', repository = REPOSITORY } = {},
): Promise<void> {
  const before = await starts();
  const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/${repository}` });
  await client.start(tag);
  for (const file of files) await client.readFile(file);
  clock.endStarts();
  await expect.poll(starts, { timeout: 20_000 }).toBe(before + 1);
}

function starts(): Promise<number> {
  return app.metric('spandrel_starts_total{outcome="learned"}');
}

interface Shown {
  readonly starts: number;
  readonly files: readonly {
    readonly path: string;
    readonly startShare: number;
    readonly readShare: number;
  }[];
}

async function show(what: string, tag = 'latest', repository = REPOSITORY): Promise<unknown> {
  const response = await fetch(`${app.url}/v2/up/${repository}/_soci/images/${tag}/${what}`);
  return response.status === 200 ? response.json() : response.status;
}

/** The files that most starts have read, not only the part that shares a span with another file. */
async function likelyFiles(repository = REPOSITORY): Promise<string[]> {
  const { files } = (await show('profile', 'latest', repository)) as Shown;
  return files
    .filter(({ startShare, readShare }) => startShare > 0.5 && readShare > 0.5)
    .map(({ path }) => path);
}

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  await upstream.addImage(REPOSITORY, [BASE, APP]);
  await upstream.addImage(REPOSITORY, [BASE, NEXT_APP], 'next');
  await upstream.addImage('team/other', [BASE]);
  root = await temporaryFolder();
  app = await startInflating(upstream, { clock, root });
});

describe('starts of containers', () => {
  it('teach a repository what its images read, over tags, in the order of first touch', async () => {
    expect(await show('profile')).toEqual({ starts: 0, files: [] });
    await startContainer(['lib/used', 'bin/app']);
    await startContainer(['lib/used', 'bin/app']);
    expect(await likelyFiles()).toEqual(['lib/used', 'bin/app']);
    expect(await show('profile')).toMatchObject({ starts: 2 });
    // The next version has other bytes at the same path, and a new file.
    await startContainer(['lib/used', 'bin/new', 'bin/app'], { tag: 'next' });
    await startContainer(['lib/used', 'bin/new', 'bin/app'], { tag: 'next' });
    expect((await likelyFiles()).toSorted()).toEqual(['bin/app', 'bin/new', 'lib/used']);
    expect(await show('profile', 'next')).toEqual(await show('profile'));
  });

  it('teach nothing to another repository with the same layers', async () => {
    const before = await show('profile');
    expect(await show('profile', 'latest', 'team/other')).toEqual({ starts: 0, files: [] });
    await startContainer(['lib/unused'], { repository: 'team/other' });
    expect(await likelyFiles('team/other')).toEqual(['lib/unused']);
    expect(await show('profile')).toEqual(before);
  });

  it('are shown for the image whose layers they mounted, without addresses', async () => {
    await startContainer(['bin/other']);
    const { starts: shown } = (await show('starts')) as { starts: readonly Record<string, unknown>[] };
    const [last] = shown;
    const { bytes, bySource, requests, ranges } = last as {
      readonly bytes: number;
      readonly bySource: Readonly<Record<string, number>>;
      readonly requests: number;
      readonly ranges: readonly { readonly start: number; readonly end: number; readonly digest: string }[];
    };
    expect(last).toMatchObject({ form: 'inflated', hasBootLayer: false, end: 'silence', seconds: 0 });
    expect(requests).toBe(ranges.length);
    expect(bytes).toBeGreaterThanOrEqual(200_000);
    expect(Object.values(bySource).reduce((sum, part) => sum + part, 0)).toBe(bytes);
    expect(ranges.reduce((sum, { start, end }) => sum + end - start, 0)).toBe(bytes);
    expect(JSON.stringify(shown)).not.toContain('127.0.0.1');
    // Two starts of the other tag are not of this one.
    const next = (await show('starts', 'next')) as { starts: readonly { readonly at: string }[] };
    expect(next.starts).toHaveLength(2);
    expect(shown.map(({ at }) => at)).not.toContain(next.starts[0]?.at);
  });

  it('are shown to those who may read the image', async () => {
    for (const what of ['starts', 'profile']) {
      expect(await show(what, 'missing')).toBe(404);
      expect(await show(what, 'latest', 'team/missing')).toBe(404);
    }
  });
});

describe('spandrel profile', () => {
  it('shows, exports and imports', async () => {
    const folder = await temporaryFolder();
    const file = join(folder, 'profiles.json');
    const at = ['--admin', app.adminUrl];
    const shown = await runInProcess('profile', 'show', 'up/team/app:latest', ...at);
    expect(shown.status).toBe(0);
    expect(shown.stdout).toMatch(/^ *\d+ % +100 % +100000 +lib\/used$/m);
    expect(shown.stdout).toMatch(/\nup\/team\/app: \d+ starts, \d+ files, \d+ bytes\n$/);
    expect(await runInProcess('profile', 'export', 'up/team/app', '--file', file, ...at)).toMatchObject({
      status: 0,
    });
    const imported = await runInProcess('profile', 'import', 'up/team/staging', '-f', file, '--json', ...at);
    expect([imported.status, JSON.parse(imported.stdout)]).toEqual([0, { imported: 1 }]);
    const json = await runInProcess('profile', 'show', 'up/team/staging', '--json', ...at);
    expect(JSON.parse(json.stdout)).toMatchObject({ repository: 'up/team/staging' });
    const all = JSON.parse((await runInProcess('profile', 'export', ...at)).stdout) as {
      profiles: unknown[];
    };
    expect(all.profiles.length).toBeGreaterThanOrEqual(2);
    await writeFile(file, JSON.stringify(all));
    expect((await runInProcess('profile', 'import', '-f', file, ...at)).stdout).toBe(
      `${all.profiles.length} profiles imported\n`,
    );
    expect((await runInProcess('profile', 'import', 'up/team/one', '-f', file, ...at)).status).toBe(1);
    await writeFile(file, 'nothing');
    expect((await runInProcess('profile', 'import', '-f', file, ...at)).status).toBe(1);
  });

  it.each([
    [3, ['show', 'up/team/never']],
    [3, ['export', 'nowhere/app']],
    [2, ['show']],
    [2, ['delete', 'up/team/app']],
    [2, ['show', 'a', 'b']],
    [4, ['show', 'up/team/app', '--admin', 'http://127.0.0.1:9']],
  ])('ends with status %i: %j', async (status, args) => {
    const at = args.includes('--admin') ? [] : ['--admin', app.adminUrl];
    expect((await runInProcess('profile', ...args, ...at)).status).toBe(status);
  });
});

describe('profiles', () => {
  async function api(query = '', init: RequestInit = {}): Promise<{ status: number; body: Exported }> {
    const response = await fetch(`${app.adminUrl}/api/v1/profiles${query}`, init);
    return { status: response.status, body: (await response.json()) as Exported };
  }
  interface Exported {
    readonly profiles: readonly (Shown & { readonly repository: string })[];
    readonly errors?: readonly { readonly code: string; readonly message: string }[];
  }
  function put(profiles: readonly object[]): ReturnType<typeof api> {
    const headers = { 'content-type': 'application/json' };
    return api('', { method: 'PUT', headers, body: JSON.stringify({ profiles }) });
  }

  it('are exported, all or one, and imported as another repository', async () => {
    const { body: all } = await api();
    expect(all.profiles.map(({ repository }) => repository)).toEqual(
      expect.arrayContaining(['up/team/app', 'up/team/other']),
    );
    const { body: one } = await api('?repository=up/team/app');
    expect(one.profiles).toEqual(all.profiles.filter(({ repository }) => repository === 'up/team/app'));
    const [exported] = one.profiles;
    expect((await put([{ ...exported, repository: 'up/team/imported' }])).body).toEqual({ imported: 1 });
    const { body: again } = await api('?repository=up/team/imported');
    const rounded = ({ files = [] }: Partial<Shown>): unknown[] =>
      files.map((file) => [file.path, file.startShare.toFixed(2)]);
    expect(rounded(again.profiles[0] ?? {})).toEqual(rounded(exported ?? {}));
  });

  it('are not imported if any of them is unusable', async () => {
    const file = { path: 'bin/app', bytes: 1, startShare: 1, readShare: 1 };
    const good = { repository: 'up/team/good', starts: 2, files: [file] };
    const wrong: readonly object[] = [
      { ...good, repository: 'up/Team' },
      { ...good, starts: 0 },
      { ...good, starts: 1.5 },
      { ...good, files: undefined },
      { ...good, files: [file, file] },
      { ...good, files: Array.from({ length: 10_001 }, (_, number) => ({ ...file, path: `f${number}` })) },
      ...['', '/bin/app', 'bin//app', './bin', 'bin/../app', 'bin/app/', 'a\0b', 'x'.repeat(4096)].map(
        (path) => ({
          ...good,
          files: [{ ...file, path }],
        }),
      ),
      ...[0, -1, 1.1, '1', null].map((startShare) => ({ ...good, files: [{ ...file, startShare }] })),
      ...[-1, 0.5, 2 ** 60, null].map((bytes) => ({ ...good, files: [{ ...file, bytes }] })),
    ];
    for (const one of wrong) {
      const { status, body } = await put([good, one]);
      expect([status, body.errors?.[0]?.code], JSON.stringify(one).slice(0, 200)).toEqual([
        400,
        expect.stringMatching(/^(QUERY|NAME)_INVALID$/),
      ]);
    }
    expect((await api('?repository=up/team/good')).status).toBe(404);
  });
});

describe('a proxy that starts again', () => {
  it('has its profiles, and reads ahead what they have when a node mounts the layers', async () => {
    const before = await show('profile');
    await app[Symbol.asyncDispose]();
    app = await startInflating(upstream, { clock, root });
    expect(await show('profile')).toEqual(before);
    const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/${REPOSITORY}` });
    await client.start('latest');
    // Nothing but the profile wants bytes yet.
    const inflated = (): Promise<number> => app.metric('spandrel_inflate_bytes_total{engine="wasm"}');
    await expect.poll(inflated, { timeout: 20_000 }).toBeGreaterThanOrEqual(200_000);
    await client.readFile('lib/used');
    const used = (): Promise<number> => app.metric('spandrel_profile_warmed_bytes_total{outcome="read"}');
    await expect.poll(used, { timeout: 20_000 }).toBeGreaterThanOrEqual(100_000);
  });
});
