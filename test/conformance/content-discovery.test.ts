import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import type { FaultAction } from '../registry/faults.ts';
import {
  errorCode,
  KnownRepository,
  manifestBytes,
  OCI_INDEX,
  OCI_MANIFEST,
} from '../helpers/images/known-repository.ts';

interface Entry {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
}

let known: KnownRepository;
const opened: KnownRepository[] = [];

async function start(options: Parameters<typeof KnownRepository.start>[0] = {}): Promise<void> {
  known = await KnownRepository.start(options);
  opened.push(known);
}

beforeEach(() => start());
afterEach(async () => {
  for (const repository of opened.splice(0)) await repository[Symbol.asyncDispose]();
});

async function referrers(query = '', digest: string = known.manifestDigest): Promise<Entry[]> {
  const answer = await known.ask(`referrers/${digest}${query}`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, OCI_INDEX]);
  const index = JSON.parse(answer.body.toString()) as { schemaVersion: number; mediaType: string };
  expect([index.schemaVersion, index.mediaType]).toEqual([2, OCI_INDEX]);
  return (index as unknown as { manifests: Entry[] }).manifests;
}

/**
 * Follows the Link header to the last page.
 * @returns the size of each page and all entries
 */
async function follow<T>(path: string, read: (body: Buffer) => T[]): Promise<{ pages: number[]; all: T[] }> {
  const pages: number[] = [];
  const all: T[] = [];
  for (let next: string | undefined = path; next !== undefined && pages.length < 20;) {
    const answer = await known.ask(next);
    expect(answer.status).toBe(200);
    const entries = read(answer.body);
    pages.push(entries.length);
    all.push(...entries);
    next = /^<(.+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
  }
  return { pages, all };
}

describe('distribution spec, "Listing Referrers" (end-12)', () => {
  it('a manifest without referrers, and a missing one, have an empty list', async () => {
    expect(await referrers()).toEqual([]);
    expect(await referrers('', digestOf('no manifest'))).toEqual([]);
    const elsewhere = await known.ask(`/v2/no/repository/referrers/${digestOf('x')}`);
    expect([elsewhere.status, elsewhere.headers.get('content-type')]).toEqual([200, OCI_INDEX]);
  });

  it('a malformed digest is answered with 400', async () => {
    const answer = await known.ask('referrers/sha256:totallywrong');
    expect([answer.status, errorCode(answer)]).toEqual([400, 'DIGEST_INVALID']);
  });

  it('each descriptor has type, size, artifactType and annotations of its manifest', async () => {
    const digest = known.addReferrer('application/vnd.example.sbom', { made: 'today' });
    const [entry] = await referrers();
    expect(entry).toMatchObject({
      mediaType: OCI_MANIFEST,
      digest,
      artifactType: 'application/vnd.example.sbom',
      annotations: { made: 'today' },
    });
    expect(entry?.size).toBe((await known.ask(`manifests/${digest}`)).body.length);
  });

  it('artifactType filters by one or several types, and the response says so', async () => {
    for (const type of ['a/sbom', 'a/signature', 'a/other']) known.addReferrer(type);
    const types = async (query: string): Promise<string[]> =>
      Array.from(await referrers(query), ({ artifactType = '' }) => artifactType).toSorted();
    expect(await types('')).toEqual(['a/other', 'a/sbom', 'a/signature']);
    expect(await types('?artifactType=a%2Fsbom')).toEqual(['a/sbom']);
    expect(await types('?artifactType=a/sbom&artifactType=a/other')).toEqual(['a/other', 'a/sbom']);
    expect(await types('?artifactType=a/none')).toEqual([]);
    const path = `referrers/${known.manifestDigest}`;
    const filtered = await known.ask(`${path}?artifactType=a/sbom`);
    expect(filtered.headers.get('oci-filters-applied')).toBe('artifactType');
    expect((await known.ask(path)).headers.get('oci-filters-applied')).toBeNull();
  });

  it('pages are linked, and together they are the list', async () => {
    for (let place = 0; place < 7; place++) known.addReferrer('a/sbom', { place: String(place) });
    const read = (body: Buffer): Entry[] => (JSON.parse(body.toString()) as { manifests: Entry[] }).manifests;
    for (const filter of ['', '&artifactType=a/sbom']) {
      const { pages, all } = await follow(`referrers/${known.manifestDigest}?n=3${filter}`, read);
      expect(pages).toEqual([3, 3, 1]);
      expect(new Set(all.map(({ digest }) => digest)).size).toBe(7);
    }
  });

  it('entries of the fallback tag are listed where the upstream has no such API', async () => {
    await start({ referrers: false });
    const bytes = manifestBytes({ artifactType: 'a/signature' });
    const digest = known.upstream.addManifest('team/app', digestOf(bytes), bytes, OCI_MANIFEST);
    const entry = { mediaType: OCI_MANIFEST, digest, size: bytes.length, artifactType: 'a/signature' };
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry] };
    const tag = known.manifestDigest.replace(':', '-');
    known.upstream.addManifest('team/app', tag, Buffer.from(JSON.stringify(index)), OCI_INDEX);
    expect(await referrers()).toEqual([entry]);
    expect(await referrers('?artifactType=a/none')).toEqual([]);
    // Clients fall back to the tag if the API is missing.
    expect((await known.ask(`manifests/${tag}`)).status).toBe(200);
  });

  it.each<[string, FaultAction, number, string]>([
    ['500', { kind: 'status', status: 500 }, 502, 'UPSTREAM_UNREACHABLE'],
    ['503', { kind: 'status', status: 503 }, 502, 'UPSTREAM_UNREACHABLE'],
    ['429', { kind: 'status', status: 429 }, 503, 'UPSTREAM_THROTTLED'],
    ['400', { kind: 'status', status: 400 }, 502, 'UPSTREAM_PROTOCOL'],
    ['an error with 200', { kind: 'status', status: 200 }, 502, 'UPSTREAM_PROTOCOL'],
    ['a page with 200', { kind: 'status', status: 200, body: '<html></html>' }, 502, 'UPSTREAM_PROTOCOL'],
    ['nothing with 204', { kind: 'status', status: 204, body: '' }, 502, 'UPSTREAM_PROTOCOL'],
    ['a broken connection', { kind: 'reset' }, 502, 'UPSTREAM_UNREACHABLE'],
    ['half a list', { kind: 'reset', afterBytes: 20 }, 502, 'UPSTREAM_UNREACHABLE'],
  ])(
    'while an upstream answers %s, its last list is served, or an error if there is none',
    async (_what, action, status, code) => {
      // Other tests cover the circuit breaker.
      await start({ environment: { SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000' } });
      const signature = known.addReferrer('a/signature');
      const digests = async (query = ''): Promise<string[]> =>
        (await referrers(query)).map(({ digest }) => digest);
      expect(await digests()).toEqual([signature]);
      known.upstream.faults.add({ match: { path: /referrers/ }, action });
      expect(await digests()).toEqual([signature]);
      expect(await digests('?artifactType=a/signature')).toEqual([signature]);
      for (const query of ['', '?artifactType=a/signature', `?artifactType=${MEDIA_TYPES.sociIndexV1}`]) {
        const failed = await known.ask(`referrers/${digestOf('not asked before')}${query}`);
        expect([failed.status, errorCode(failed)]).toEqual([status, code]);
      }
      known.upstream.faults.set([]);
      const second = known.addReferrer('a/signature', { second: 'yes' });
      expect((await digests()).toSorted()).toEqual([signature, second].toSorted());
    },
  );

  // With 401 the upstream refuses the proxy's credentials, or misses them. A client cannot help that with its
  // own.
  it.each([
    [401, 502, 'UPSTREAM_CREDENTIALS_REFUSED'],
    [403, 403, 'DENIED'],
  ])('a refusal with %i becomes %i %s, whatever was listed before', async (status, told, code) => {
    known.addReferrer('a/signature');
    expect(await referrers()).toHaveLength(1);
    known.upstream.faults.add({ match: { path: /referrers/ }, action: { kind: 'status', status } });
    const refused = await known.ask(`referrers/${known.manifestDigest}`);
    expect([refused.status, errorCode(refused)]).toEqual([told, code]);
  });
});

describe('distribution spec, "Listing Tags" (end-8a, end-8b)', () => {
  const tagsOf = (body: Buffer): string[] => (JSON.parse(body.toString()) as { tags: string[] }).tags;

  function addTags(...tags: string[]): void {
    for (const tag of tags) known.upstream.addManifest('team/app', tag, known.manifest, OCI_MANIFEST);
  }

  it('a list has the name as the client wrote it, and the tags in order', async () => {
    addTags('b', 'a');
    for (const name of ['team/app', 'known/team/app']) {
      const answer = await known.ask(`/v2/${name}/tags/list`);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json']);
      expect(JSON.parse(answer.body.toString())).toEqual({ name, tags: ['1.0', 'a', 'b'] });
      expect(answer.headers.get('link')).toBeNull();
    }
  });

  it('n bounds a page, last is its start, and Link leads to the next one', async () => {
    addTags('a', 'b', 'c', 'd');
    expect(tagsOf((await known.ask('tags/list?last=b')).body)).toEqual(['c', 'd']);
    expect(tagsOf((await known.ask('tags/list?n=2&last=a')).body)).toEqual(['b', 'c']);
    const { pages, all } = await follow('tags/list?n=2', tagsOf);
    expect([pages, all]).toEqual([
      [2, 2, 1],
      ['1.0', 'a', 'b', 'c', 'd'],
    ]);
  });

  it('the Link keeps the prefix or the ns that the client used', async () => {
    addTags('a', 'b');
    const prefixed = await follow('/v2/known/team/app/tags/list?n=2', tagsOf);
    expect(prefixed.pages).toEqual([2, 1]);
    const named = await follow('tags/list?n=2&ns=registry.example.com', tagsOf);
    expect(named.pages).toEqual([2, 1]);
  });

  it('n of 0 is an empty list without a Link', async () => {
    const answer = await known.ask('tags/list?n=0');
    expect([answer.status, tagsOf(answer.body), answer.headers.get('link')]).toEqual([200, [], null]);
  });

  it('a malformed n is refused, and an unknown repository is 404', async () => {
    expect((await known.ask('tags/list?n=x')).status).toBe(400);
    const unknown = await known.ask('/v2/no/repository/tags/list');
    expect([unknown.status, errorCode(unknown)]).toEqual([404, 'NAME_UNKNOWN']);
  });
});

it('digests of the discovered manifests are those of their bytes', async () => {
  const digest: Digest = known.addReferrer('a/sbom');
  const [entry] = await referrers();
  expect(digestOf((await known.ask(`manifests/${entry?.digest ?? ''}`)).body)).toBe(digest);
});
