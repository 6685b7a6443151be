import { setTimeout as sleep } from 'node:timers/promises';

import { beforeAll, beforeEach, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { SharedTags } from '../../../src/images/manifests/shared-tags.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { openCache } from '../../helpers/open-cache.ts';
import { openManifests, type OpenedManifests } from '../../helpers/open-manifests.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';
import { ScriptedUpstream } from '../../helpers/upstreams/scripted-upstream.ts';

const UNKNOWN = { code: 'MANIFEST_UNKNOWN' };

let redis: RedisServer;
let upstream: ScriptedUpstream;
/** What the upstream has: the digest of each tag, and the bytes of each digest. */
let tags: Map<string, Digest>;
let content: Map<string, Buffer>;
/** The version that each digest stands for. */
let versions: Map<Digest, number>;
/** Before the upstream sends what it decided when the request arrived. */
let delay: () => Promise<unknown>;
let isAway: boolean;

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
});

beforeEach(async () => {
  await redis.command('FLUSHALL');
  [tags, content, versions, isAway] = [new Map(), new Map(), new Map(), false];
  delay = () => Promise.resolve();
  upstream = cleanup.use(
    await ScriptedUpstream.start(({ url, method }, response) => {
      if (isAway) throw new Error('away');
      const reference = /\/manifests\/(.+)$/.exec(url)?.[1] ?? '';
      const bytes = content.get(tags.get(reference) ?? reference);
      const answer = (): void => {
        if (bytes === undefined) return void response.writeHead(404).end();
        response.writeHead(200, {
          'content-type': MEDIA_TYPES.ociManifest,
          'content-length': bytes.byteLength,
          'docker-content-digest': digestOf(bytes),
        });
        response.end(method === 'HEAD' ? undefined : bytes);
      };
      void delay().then(answer);
    }),
  );
});

/** Moves a tag to a manifest that says the version. */
function move(tag: string, version: number): Digest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, text: `${tag} ${version}` }));
  const digest = digestOf(bytes);
  content.set(digest, bytes);
  tags.set(tag, digest);
  versions.set(digest, version);
  return digest;
}

/** A replica with a disk and a connection of its own. */
async function startReplica(tagSeconds = 600, negativeSeconds = 600): Promise<OpenedManifests> {
  const sharedTags = new SharedTags(await openCache(redis), { negativeAgeMs: negativeSeconds * 1000 });
  return openManifests({ upstream, root: await temporaryFolder(), tagSeconds, negativeSeconds, sharedTags });
}

async function resolve({ manifests, target }: OpenedManifests, tag = 'latest'): Promise<Digest> {
  return (await manifests.get(target, { tag })).manifest.digest;
}

/** Methods of the requests since the last call, for a tag or a digest. */
function asked(reference: string): string[] {
  return upstream.requests
    .splice(0)
    .filter(({ url }) => url.endsWith(`/${reference}`))
    .map(({ method }) => method);
}

it('a move that one replica has learned of is at once the answer of all, and stays it', async () => {
  const [first, second, third] = [await startReplica(), await startReplica(), await startReplica()];
  const old = move('latest', 1);
  for (const replica of [first, second, third]) expect(await resolve(replica)).toBe(old);
  expect(asked('latest')).toEqual(['GET']);
  const moved = move('latest', 2);
  // Each has the old one for ten minutes yet, until one of them hears of the move.
  for (const replica of [first, second, third]) expect(await resolve(replica)).toBe(old);
  await first.manifests.refresh(first.target, { tag: 'latest' });
  for (const replica of [second, third, first]) expect(await resolve(replica)).toBe(moved);
  expect(asked('latest')).toEqual(['HEAD', 'GET']);
});

it('an answer that the upstream gave to an earlier question does not replace a later one', async () => {
  const [slow, quick] = [await startReplica(0), await startReplica(0)];
  const old = move('latest', 1);
  for (const replica of [slow, quick]) expect(await resolve(replica)).toBe(old);
  const held = Promise.withResolvers<void>();
  delay = () => held.promise;
  upstream.requests.splice(0);
  const waiting = slow.manifests.refresh(slow.target, { tag: 'latest' });
  await expect.poll(() => upstream.requests.length).toBe(1);
  delay = () => Promise.resolve();
  const moved = move('latest', 2);
  expect(await resolve(quick)).toBe(moved);
  held.resolve();
  expect((await waiting).manifest.digest).toBe(moved);
  expect(await resolve(await startReplica())).toBe(moved);
});

it('the absence of a manifest is asked for once, and ends everywhere when one replica finds it', async () => {
  const [first, second] = [await startReplica(), await startReplica()];
  const digest = digestOf(Buffer.from(JSON.stringify({ schemaVersion: 2, text: 'later 1' })));
  for (const reference of [{ tag: 'later' }, { digest }]) {
    for (const { manifests, target } of [first, second, first])
      await expect(manifests.get(target, reference)).rejects.toMatchObject(UNKNOWN);
    expect(asked('tag' in reference ? 'later' : digest)).toEqual(['GET']);
  }
  expect(move('later', 1)).toBe(digest);
  for (const reference of [{ tag: 'later' }, { digest }]) {
    await first.manifests.refresh(first.target, reference);
    const found = await second.manifests.get(second.target, reference);
    expect(found.manifest.digest).toBe(digest);
  }
  // It is deleted again.
  tags.clear();
  await expect(second.manifests.refresh(second.target, { tag: 'later' })).rejects.toMatchObject(UNKNOWN);
  await expect(first.manifests.get(first.target, { tag: 'later' })).rejects.toMatchObject(UNKNOWN);
});

it('while the upstream is away, a replica serves the tag as any of them has seen it last', async () => {
  const [first, second] = [await startReplica(0), await startReplica(0)];
  const old = move('latest', 1);
  for (const replica of [first, second]) expect(await resolve(replica)).toBe(old);
  const moved = move('latest', 2);
  expect(await resolve(first)).toBe(moved);
  // The second has the manifest, but has not been asked for the tag since.
  await second.manifests.get(second.target, { digest: moved });
  isAway = true;
  for (const replica of [first, second]) expect(await resolve(replica)).toBe(moved);
});

it('what Redis has lost, or got back from an old copy, does not make a replica go back', async () => {
  const [first, second] = [await startReplica(), await startReplica()];
  const old = move('latest', 1);
  for (const replica of [first, second]) expect(await resolve(replica)).toBe(old);
  const [name = ''] = (await redis.command('KEYS *tag:1:*latest')).match(/spandrel:\S+/) ?? [];
  expect(name).not.toBe('');
  await redis.command(`COPY ${name} old`);
  const moved = move('latest', 2);
  await first.manifests.refresh(first.target, { tag: 'latest' });
  for (const lose of ['FLUSHALL', `COPY old ${name} REPLACE`, `DEL ${name}`]) {
    await redis.command(lose);
    for (const replica of [first, second]) expect([lose, await resolve(replica)]).toEqual([lose, moved]);
    await redis.command(`COPY ${name} old2`);
  }
  expect(asked('latest')).toEqual(['GET', 'HEAD', 'GET']);
});

it.each([
  [0, 1],
  [600, 2],
  [600, 3],
])(
  'no client sees a tag go back, whichever replicas it asks, while tags move and replicas restart (%i s, seed %i)',
  async (tagSeconds, seed) => {
    const random = seededRandom(seed);
    const pick = (count: number): number => Math.floor(random() * count);
    const waits = Array.from({ length: 997 }, () => pick(4));
    let calls = 0;
    delay = () => sleep(waits[++calls % waits.length]);
    const replicas = await Promise.all([1, 2, 3].map(() => startReplica(tagSeconds)));
    const names = ['one', 'two'];
    const newest = new Map(names.map((tag) => [tag, 1]));
    for (const tag of names) move(tag, 1);
    /** The version that every request that begins now must see at least: somebody has seen it. */
    const seen = new Map<string, number>();
    const operations = 40;
    const client = async (): Promise<void> => {
      for (let done = 0; done < operations; done++) {
        const tag = names[pick(names.length)] ?? '';
        const place = pick(replicas.length);
        const kind = pick(20);
        if (kind === 0) {
          newest.set(tag, (newest.get(tag) ?? 0) + 1);
          move(tag, newest.get(tag) ?? 0);
        } else if (kind === 1) replicas[place] = await startReplica(tagSeconds);
        else {
          const replica = replicas[place];
          if (replica === undefined) throw new Error('there is a replica');
          const { manifests, target } = replica;
          const least = kind === 2 ? (newest.get(tag) ?? 0) : (seen.get(tag) ?? 0);
          const found = await (kind === 2
            ? manifests.refresh(target, { tag })
            : manifests.get(target, { tag }));
          const version = versions.get(found.manifest.digest) ?? 0;
          expect(version, `${tag} at ${place}, operation ${done}`).toBeGreaterThanOrEqual(least);
          seen.set(tag, Math.max(version, seen.get(tag) ?? 0));
        }
      }
    };
    await Promise.all([client(), client(), client(), client()]);
    expect(Math.max(...seen.values())).toBeGreaterThan(1);
  },
);
