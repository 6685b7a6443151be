import { writeFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { ProofTable } from '../../../src/images/proofs/proof-table.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { type Script, ScriptedUpstream } from '../../helpers/upstreams/scripted-upstream.ts';
import { healthOf } from '../../helpers/faults/store-health.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const blob = randomBlob(300_000, 1);
const digest = digestOf(blob);
const owners = new Set<string>();

let root: string;
let upstream: ScriptedUpstream;
let app: RunningApp;
let isAway: boolean;
/** The upstream withholds the end of the blob until this resolves. */
let gate: Promise<void>;

/** A registry whose repositories in `owners` have the blob. */
const answer: Script = ({ method, url, headers }, response) => {
  if (isAway) throw new Error('away');
  const [, repository = ''] = /^\/v2\/(\S+)\/blobs\/sha256:/.exec(url) ?? [];
  if (!owners.has(repository)) {
    response.writeHead(404).end();
  } else if (method === 'HEAD') {
    response.writeHead(200, { 'content-length': blob.byteLength }).end();
  } else {
    const [, first = '0', last = String(blob.byteLength - 1)] =
      /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
    const end = Math.min(blob.byteLength, Number(last) + 1);
    response.writeHead(206, { 'content-range': `bytes ${first}-${end - 1}/${blob.byteLength}` });
    const middle = Math.floor((Number(first) + end) / 2);
    response.write(blob.subarray(Number(first), middle));
    void gate.then(() => response.end(blob.subarray(middle, end)));
  }
};

beforeEach(async () => {
  owners.clear();
  for (const repository of ['team/a', 'team/c']) owners.add(repository);
  isAway = false;
  gate = Promise.resolve();
  root = await temporaryFolder();
  upstream = cleanup.use(await ScriptedUpstream.start(answer));
  app = await start();
});

function start(proofSeconds = 600): Promise<RunningApp> {
  return proxyWith(upstream, {
    environment: { SPANDREL_ACCESS_PROOF_SECONDS: String(proofSeconds), SPANDREL_UPSTREAM_RETRIES: '0' },
    root,
  });
}

async function restart(proofSeconds?: number): Promise<void> {
  await app[Symbol.asyncDispose]();
  app = await start(proofSeconds);
}

async function get(repository: string, init: RequestInit = {}, rest = `blobs/${digest}`): Promise<number> {
  const response = await fetch(`${app.url}/v2/up/${repository}/${rest}`, init);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (response.status === 200 && init.method !== 'HEAD' && rest.startsWith('blobs'))
    expect(bytes.equals(blob)).toBe(true);
  return response.status;
}

const HOUR_MS = 3_600_000;

/** Applies from the next restart on. */
function dateProof(repository: string, ageMs: number): void {
  const logger = collectingLogger();
  const options = { health: healthOf(logger), logger, nowMs: Date.now(), storeBytes: 2 ** 30 };
  using table = ProofTable.open(join(root, 'proofs'), options);
  table.set(`up/${repository} ${digest}`, { provenAtMs: Date.now() - ageMs, derivation: undefined });
}

function requestsFor(repository: string): string[] {
  return upstream.requests.filter(({ url }) => url.includes(repository)).map(({ method }) => method);
}

describe('a cached blob', () => {
  it('a cached blob is not served to a repository that lacks it, whatever the request', async () => {
    expect(await get('team/a')).toBe(200);
    expect(await get('team/b')).toBe(404);
    expect(await get('team/b', { method: 'HEAD' })).toBe(404);
    expect(await get('team/b', { headers: { range: 'bytes=0-9' } })).toBe(404);
    for (const route of ['', '/spans', '/spans/0', '/tar', '/files', '/files/etc/hosts'])
      expect(await get('team/b', {}, `_soci/layers/${digest}${route}`)).toBe(404);
    // A first 404 for HEAD is confirmed by GET, as the upstream may not support HEAD.
    expect(requestsFor('team/b').filter((method) => method !== 'HEAD')).toEqual(['GET']);
  });

  it('a blob is not served to a repository that lacks it while it arrives', async () => {
    const rest = Promise.withResolvers<void>();
    gate = rest.promise;
    const first = get('team/a');
    const response = await fetch(`${app.url}/v2/up/team/a/blobs/${digest}`);
    expect(await get('team/b')).toBe(404);
    rest.resolve();
    expect(await first).toBe(200);
    expect(Buffer.from(await response.arrayBuffer()).equals(blob)).toBe(true);
  });

  it('a cached blob is served to another repository that has it, without a second fetch', async () => {
    expect(await get('team/a')).toBe(200);
    expect(requestsFor('team/a')).toEqual(['GET']);
    for (let round = 0; round < 3; round++) expect(await get('team/c')).toBe(200);
    expect(requestsFor('team/c')).toEqual(['HEAD']);
    expect(await get('team/a')).toBe(200);
    expect(requestsFor('team/a')).toEqual(['GET']);
  });

  it('a cached blob is served while the upstream is away, even by an old proof after a restart', async () => {
    expect(await get('team/a')).toBe(200);
    isAway = true;
    await restart();
    expect(await get('team/a')).toBe(200);
    dateProof('team/a', HOUR_MS);
    await restart();
    expect(await get('team/a')).toBe(200);
    expect(await get('team/b')).toBe(502);
  });

  it('a cached blob is confirmed again when the proof is old, and refused once it is lost', async () => {
    await restart(1);
    expect(await get('team/a')).toBe(200);
    dateProof('team/a', HOUR_MS);
    await restart(1);
    owners.delete('team/a');
    expect(await get('team/a')).toBe(404);
    isAway = true;
    // The missing blob is remembered.
    expect(await get('team/a')).toBe(502);
  });

  it.each([[-HOUR_MS / 60], [-1000 * HOUR_MS], [-1_000_000 * HOUR_MS]])(
    'a cached blob is confirmed if its proof is dated in the future: %d ms old',
    async (ageMs) => {
      expect(await get('team/a')).toBe(200);
      dateProof('team/a', ageMs);
      await restart();
      upstream.requests.length = 0;
      expect(await get('team/a')).toBe(200);
      expect(requestsFor('team/a')).toEqual(['HEAD']);
      owners.delete('team/a');
      // The proof is current now.
      expect(await get('team/a')).toBe(200);
      expect(requestsFor('team/a')).toEqual(['HEAD']);
    },
  );
});

describe('ProofTable', () => {
  const made = { image: digest, manifests: [digest], layers: [digestOf('layer')] };

  it('ProofTable replaces a damaged file, and drops very old rows and those of the future', async () => {
    const path = join(root, 'table');
    await writeFile(path, Buffer.alloc(10_000, 'x'));
    const logger = collectingLogger();
    {
      using table = ProofTable.open(path, {
        health: healthOf(logger),
        logger,
        nowMs: 5,
        storeBytes: 2 ** 30,
      });
      table.set('name', { provenAtMs: 7, derivation: undefined });
      table.set('made', { provenAtMs: 7, derivation: made });
      expect(table.get('name')).toEqual({ provenAtMs: 7, derivation: undefined });
    }
    {
      using table = ProofTable.open(path, {
        health: healthOf(logger),
        logger,
        nowMs: 8,
        storeBytes: 2 ** 30,
      });
      expect(table.get('name')).toEqual({ provenAtMs: 7, derivation: undefined });
      expect(table.get('made')).toEqual({ provenAtMs: 7, derivation: made });
      table.delete('name');
      expect(table.get('name')).toBeUndefined();
      table.set('old', { provenAtMs: 9, derivation: undefined });
    }
    {
      using table = ProofTable.open(path, {
        health: healthOf(logger),
        logger,
        nowMs: 365 * 24 * HOUR_MS,
        storeBytes: 2 ** 30,
      });
      expect(table.get('old')).toBeUndefined();
      table.set('ahead', { provenAtMs: 365 * 24 * HOUR_MS, derivation: undefined });
    }
    using table = ProofTable.open(path, {
      health: healthOf(logger),
      logger,
      nowMs: 300 * 24 * HOUR_MS,
      storeBytes: 2 ** 30,
    });
    expect(table.get('ahead')).toBeUndefined();
  });

  it('ProofTable bounds the rows of its file, by the size of the store; the oldest proofs go', async () => {
    const path = join(root, 'table');
    const logger = collectingLogger();
    const options = { health: healthOf(logger), logger, nowMs: 0, storeBytes: 2 ** 20 };
    const name = (number: number): string => `up/team/app ${digestOf(String(number))}`;
    {
      using table = ProofTable.open(path, options);
      for (let number = 0; number < 30_000; number++)
        table.set(name(number), { provenAtMs: number, derivation: undefined });
    }
    using table = ProofTable.open(path, options);
    expect(table.get(name(0))).toBeUndefined();
    expect(table.get(name(19_000))).toBeUndefined();
    expect(table.get(name(21_000))?.provenAtMs).toBe(21_000);
    expect(table.get(name(29_999))?.provenAtMs).toBe(29_999);
    expect((await stat(path)).size).toBeLessThan(8 * 2 ** 20);
  });
});
