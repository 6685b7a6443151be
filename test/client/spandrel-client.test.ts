import { beforeAll, describe, expect, it } from 'vitest';

import {
  type FileEntry,
  type ImageStatus,
  isSpandrelError,
  type Job,
  jobProgress,
  type LayerStatus,
  SpandrelClient,
} from '../../src/client/spandrel-client.ts';
import type { LayerDescription } from '../../src/images/lazy/layers.ts';
import type { ImageJobView } from '../../src/images/operations/image-job-view.ts';
import type { ImageDescription } from '../../src/images/operations/image-overview.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { makeSecret } from '../helpers/secrets.ts';

/** The compiler checks that the client's types describe what the proxy sends. */
export const SENT: {
  job: (sent: ImageJobView) => Job;
  image: (sent: ImageDescription) => ImageStatus;
  layer: (sent: LayerDescription) => LayerStatus;
} = { job: (sent) => sent, image: (sent) => sent, layer: (sent) => sent };

const TOKEN = makeSecret('admin token');

let upstream: LayoutUpstream;
let client: SpandrelClient;
let adminUrl: string;
let proxyUrl: string;

beforeAll(async () => {
  upstream = cleanup.use(await LayoutUpstream.start('platforms-all', 'layout', { pushes: {} }));
  const app = await proxyWith(upstream.registry, {
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_ADMIN_TOKEN: TOKEN },
  });
  ({ adminUrl, url: proxyUrl } = app);
  client = new SpandrelClient({ proxy: `${app.url}/`, admin: app.adminUrl, token: TOKEN });
});

async function bytesOf(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function names(path?: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of client.list('up/app:latest', path)) found.push(name);
  return found;
}

/** A regular file below a folder. */
async function findFile(folder: string): Promise<FileEntry & { readonly path: string }> {
  const folders: string[] = [];
  for await (const entry of client.list('up/app:latest', folder)) {
    const path = `${folder}/${entry.name}`.replace(/^\//, '');
    if (entry.type === 'reg' && entry.size > 8) return { ...entry, path };
    if (entry.type === 'dir') folders.push(path);
  }
  for (const inner of folders) {
    const found = await findFile(inner).catch(() => undefined);
    if (found !== undefined) return found;
  }
  throw new Error(`${folder} has no file`);
}

describe('SpandrelClient', () => {
  it('reads files, ranges of them, and ranges of decompressed layers', async () => {
    const file = await findFile('');
    const whole = await client.readFile('up/app:latest', file.path);
    const bytes = await bytesOf(whole.body);
    expect([whole.sizeBytes, whole.totalBytes, bytes.length]).toEqual([file.size, file.size, file.size]);
    const cases = [
      [{ start: 2, end: 6 }, bytes.subarray(2, 6)],
      [{ start: 2 }, bytes.subarray(2)],
      ['-3', bytes.subarray(-3)],
    ] as const;
    for (const [range, wanted] of cases) {
      const part = await client.readFile('up/app:latest', `/${file.path}`, { range });
      expect([part.sizeBytes, part.totalBytes]).toEqual([wanted.length, bytes.length]);
      expect((await bytesOf(part.body)).equals(wanted)).toBe(true);
    }
    const tar = await client.readLayer('up/app', file.layer ?? '', { range: { start: 257, end: 262 } });
    expect((await bytesOf(tar.body)).toString()).toBe('ustar');
  });

  it('lists folders page by page, and says what is none', async () => {
    const all = await names();
    const paged: string[] = [];
    const send = (url: string, question: object): Promise<Response> =>
      fetch(url.includes('/files/') ? `${url}${url.includes('?') ? '&' : '?'}limit=1` : url, question);
    const small = new SpandrelClient({ proxy: proxyUrl, send });
    for await (const { name } of small.list('up/app:latest')) paged.push(name);
    expect(paged).toEqual(all);
    await expect(names('/none')).rejects.toMatchObject({ code: 'FILE_UNKNOWN' });
    await expect(client.readFile('up/app:latest', '/')).rejects.toMatchObject({ code: 'FILE_NOT_REGULAR' });
  });

  it('warms with progress, and then tells what is indexed', async () => {
    const seen: Job[] = [];
    const job = await client.warm('up/app:latest', {
      platforms: ['linux/amd64'],
      onProgress: (state) => void seen.push(state),
    });
    expect([job.state, job.images.map(({ lazy }) => lazy)]).toEqual(['done', [true]]);
    expect(seen.at(-1)).toEqual(job);
    const { doneBytes, totalBytes } = jobProgress(job);
    expect(doneBytes).toBeGreaterThan(0);
    expect(totalBytes).toBe(doneBytes);
    // Before the manifests are read, nothing is known of the layers.
    for (const state of ['running', 'failed'] as const)
      expect(jobProgress({ ...job, state, layers: [] })).toEqual({ doneBytes: 0, totalBytes: undefined });
    expect(await client.job(job.id)).toEqual(job);
    const status = await client.status('up/app:latest');
    expect(status.digest).toBe(upstream.digest);
    const layer = status.platforms.flatMap(({ layers }) => layers).find(({ state }) => state === 'indexed');
    expect(await client.layerStatus('up/app', layer?.digest ?? '')).toMatchObject({ state: 'indexed' });
  });

  it('publishes, and names the job in the list', async () => {
    const job = await client.publish('up/app:latest', { platforms: ['linux/amd64'], tag: 'lazy' });
    expect(job).toMatchObject({ kind: 'publish', published: { tag: 'lazy' } });
    expect(upstream.registry.content.manifest('app', 'lazy').digest).toBe(job.published?.digest);
    expect((await client.jobs())[0]).toEqual(job);
  });

  it.each([
    ['an image that is not there', () => client.warm('up/app:none'), 'MANIFEST_UNKNOWN'],
    ['a job that is not there', () => client.job('none'), 'JOB_UNKNOWN'],
    ['a wrong token', () => new SpandrelClient({ admin: adminUrl, token: 'x' }).jobs(), 'UNAUTHORIZED'],
    [
      'no proxy',
      () => new SpandrelClient({ proxy: 'http://127.0.0.1:9' }).status('a'),
      'UPSTREAM_UNREACHABLE',
    ],
  ])('rejects with the code of the error table: %s', async (_, ask, code) => {
    const error: unknown = await ask().then(
      () => undefined,
      (failure: unknown) => failure,
    );
    expect(isSpandrelError(error) && error.code).toBe(code);
  });

  it('a signal ends the wait, and the job goes on', async () => {
    const stop = new AbortController();
    const reason = new Error('enough');
    const waiting = client.warm('up/app:latest', {
      signal: stop.signal,
      onProgress: () => stop.abort(reason),
    });
    await expect(waiting).rejects.toBe(reason);
    const [job] = await client.jobs();
    const state = async (): Promise<string> => (await client.job(job?.id ?? '')).state;
    await expect.poll(state, { timeout: 20_000 }).toBe('done');
  });
});
