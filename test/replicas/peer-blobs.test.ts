import { expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import type { BlobResponse } from '../../src/core/sources/blob-source.ts';
import type { LeaseState } from '../../src/replicas/leases.ts';
import type { SeenMember } from '../../src/replicas/members.ts';
import { PeerBlobs, type PeerBlobsDeps } from '../../src/replicas/peer-blobs.ts';
import type { PeerRequest } from '../../src/replicas/peer-client.ts';
import { Events } from '../../src/telemetry/events.ts';
import { collectingLogger } from '../helpers/collected-output.ts';

const BLOB = { digest: digestOf(Buffer.from('blob')), upstream: 'hub', repository: 'team/app' };
const RANGE = { start: 0, end: 10 };
const OTHER = { id: '0123456789abcdef', url: 'http://127.0.0.1:1' } as SeenMember;
const NEVER = new AbortController().signal;

function lease(kind: LeaseState['kind'], worker?: string): LeaseState {
  return { kind, fence: '1', worker, silentMs: 0, holders: [] };
}

/** A replica that fetches {@link BLOB} for another one. */
async function fetchForAll(deps: Partial<PeerBlobsDeps> = {}): Promise<PeerBlobs> {
  const blobs = new PeerBlobs({
    leases: {
      claim: () => Promise.resolve(lease('mine')),
      // The other one takes the lease at once.
      look: () => Promise.resolve(lease('busy', OTHER.id)),
      renew: () => Promise.resolve(true),
      end: () => Promise.resolve(),
    },
    members: { id: 'fedcba9876543210', count: 2, find: () => Promise.resolve(OTHER) },
    client: {
      fetch: ({ watch }: PeerRequest) => {
        watch[Symbol.dispose]();
        return Promise.resolve({ range: RANGE, totalBytes: 10, body: tenBytes() });
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    requestedName: (_upstream: string, repository: string) => repository,
    events: new Events(collectingLogger()),
    ...deps,
  } as unknown as PeerBlobsDeps);
  expect(await blobs.fetch(BLOB, RANGE, NEVER)).toBeUndefined();
  return blobs;
}

async function* tenBytes(): AsyncGenerator<Buffer, void, undefined> {
  yield Buffer.alloc(10);
}

it('a replica that leaves ends what it reads, and gets the rest from the one that goes on', async () => {
  await using blobs = await fetchForAll();
  const ended = blobs.upstreamRead(BLOB);
  const seen: string[] = [];
  const finishing = blobs.finish(600_000).then(() => seen.push('finished'));
  const next = blobs.fetch(BLOB, RANGE, NEVER);
  void next.then(() => seen.push('next'));
  await vi.waitFor(() => expect([...blobs.held()]).toHaveLength(1));
  expect(seen).toEqual([]);
  ended();
  await finishing;
  // It still has the lease: nobody else fetches the same.
  expect([...blobs.held()]).toHaveLength(1);
  expect(seen).toEqual(['finished']);
  await blobs.leave();
  expect(await next).toMatchObject<Partial<BlobResponse>>({ range: RANGE });
});

it('a replica that leaves waits for others that read from it, and for no upstream that hangs', async () => {
  await using blobs = await fetchForAll();
  blobs.noteSent();
  const before = performance.now();
  await blobs.finish(600_000);
  expect(performance.now() - before).toBeGreaterThan(500);
  blobs.upstreamRead(BLOB);
  await blobs.finish(1);
});

it('a replica that is alone leaves at once', async () => {
  const members = { id: 'fedcba9876543210', count: 1 } as PeerBlobsDeps['members'];
  await using blobs = await fetchForAll({ members });
  blobs.upstreamRead(BLOB);
  await blobs.finish(600_000);
});
