import { describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { DurableRecords } from '../../../src/durable/records/durable-records.ts';
import { LastingProofs } from '../../../src/images/proofs/lasting-proofs.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { MemoryObjects } from '../../helpers/upstreams/memory-objects.ts';

const REPOSITORY = 'up/team/app';
const LIFETIME_MS = 600_000;
const DAY_MS = 24 * 3_600_000;
const [A, B] = [digestOf(Buffer.from('a')), digestOf(Buffer.from('b'))];

class Replicas {
  readonly objects = new MemoryObjects();
  nowMs = 1_800_000_000_000;

  /** With records and memory of its own. */
  add(delays = { firstMs: 0, againMs: 0 }): LastingProofs {
    const events = new Events(collectingLogger());
    // Replicas remember for seconds that a record is absent.
    let pastMs = 0;
    const now = (): number => (pastMs += 3_600_000);
    const records = cleanup.use(new DurableRecords({ objects: this.objects, prefix: '', events, now }));
    const deps = { records, lifetimeMs: LIFETIME_MS, delays, now: () => this.nowMs };
    return cleanup.use(new LastingProofs(deps));
  }

  writes(): number {
    return this.objects.asked.filter((request) => request.startsWith('write')).length;
  }

  /** What is in the store. */
  async written(): Promise<unknown> {
    const [bytes] = this.objects.objects.values();
    return Promise.resolve(bytes && JSON.parse(bytes.toString()));
  }
}

describe('proofs that outlive replicas', () => {
  it('are found by a later replica, with the time at which the upstream proved them', async () => {
    const replicas = new Replicas();
    const provenAtMs = replicas.nowMs;
    replicas.add().note(REPOSITORY, A, provenAtMs);
    await expect.poll(() => replicas.written()).toEqual({ [A]: provenAtMs });
    replicas.nowMs += DAY_MS;
    const later = replicas.add();
    expect(await later.find(REPOSITORY, A)).toBe(provenAtMs);
    expect(await later.find(REPOSITORY, B)).toBeUndefined();
    expect(await later.find('up/team/other', A)).toBeUndefined();
  });

  it('are forgotten after a month, and do not count if they are from the future', async () => {
    const replicas = new Replicas();
    const provenAtMs = replicas.nowMs;
    replicas.add().note(REPOSITORY, A, provenAtMs);
    await expect.poll(() => replicas.written()).toEqual({ [A]: provenAtMs });
    replicas.nowMs = provenAtMs + 31 * DAY_MS;
    expect(await replicas.add().find(REPOSITORY, A)).toBeUndefined();
    replicas.nowMs = provenAtMs - DAY_MS;
    expect(await replicas.add().find(REPOSITORY, A)).toBeUndefined();
  });

  it('are one record for a repository: one write for many, two for the renewals of a lifetime', async () => {
    const replicas = new Replicas();
    const replica = replicas.add({ firstMs: 20, againMs: DAY_MS });
    const digests = Array.from({ length: 200 }, (_, place) => digestOf(Buffer.from(`layer ${place}`)));
    for (const digest of digests) replica.note(REPOSITORY, digest, replicas.nowMs);
    const first = replicas.nowMs;
    await expect
      .poll(async () => replicas.written())
      .toEqual(Object.fromEntries(digests.map((digest) => [digest, first])));
    expect(replicas.writes()).toBe(1);
    expect(replicas.objects.objects.size).toBe(1);
    // Each is renewed ten times in its lifetime.
    for (let tenth = 1; tenth <= 10; tenth++) {
      replicas.nowMs += LIFETIME_MS / 10;
      for (const digest of digests) replica.note(REPOSITORY, digest, replicas.nowMs);
      const isWritten = tenth % 5 === 0;
      const expected = isWritten ? replicas.nowMs : first + Math.floor(tenth / 5) * (LIFETIME_MS / 2);
      await expect.poll(async () => replicas.written()).toHaveProperty(String(digests[0]), expected);
    }
    expect(replicas.writes()).toBe(3);
  });

  it('of two replicas that write at the same time are all there in the end', async () => {
    const replicas = new Replicas();
    const provenAtMs = replicas.nowMs;
    const [one, two] = [replicas.add({ firstMs: 0, againMs: 50 }), replicas.add({ firstMs: 0, againMs: 50 })];
    one.note(REPOSITORY, A, provenAtMs);
    two.note(REPOSITORY, B, provenAtMs);
    await expect.poll(() => replicas.written()).toEqual({ [A]: provenAtMs, [B]: provenAtMs });
  });

  it('end when the upstream refuses, for later replicas too', async () => {
    const replicas = new Replicas();
    const provenAtMs = replicas.nowMs;
    const replica = replicas.add();
    replica.note(REPOSITORY, A, provenAtMs);
    replica.note(REPOSITORY, B, provenAtMs);
    await expect.poll(() => replicas.written()).toEqual({ [A]: provenAtMs, [B]: provenAtMs });
    replicas.nowMs += 1;
    replica.forget(REPOSITORY, A);
    await expect.poll(() => replicas.written()).toEqual({ [B]: provenAtMs });
    expect(await replicas.add().find(REPOSITORY, A)).toBeUndefined();
  });

  it('are at most 2,000 of a repository: the newest', async () => {
    const replicas = new Replicas();
    const replica = replicas.add();
    const old = Array.from({ length: 2_000 }, (_, place) => digestOf(Buffer.from(`old ${place}`)));
    for (const digest of old) replica.note(REPOSITORY, digest, replicas.nowMs);
    await expect.poll(async () => Object.keys((await replicas.written()) ?? {}).length).toBe(2_000);
    replicas.nowMs += 1;
    replica.note(REPOSITORY, A, replicas.nowMs);
    await expect.poll(() => replicas.written()).toHaveProperty(A, replicas.nowMs);
    expect(Object.keys((await replicas.written()) as object)).toHaveLength(2_000);
  });

  it('are read once for many requests', async () => {
    const replicas = new Replicas();
    replicas.add().note(REPOSITORY, A, replicas.nowMs);
    await expect.poll(() => replicas.written()).toBeDefined();
    replicas.objects.asked.length = 0;
    const later = replicas.add();
    await Promise.all([later.find(REPOSITORY, A), later.find(REPOSITORY, B), later.find(REPOSITORY, A)]);
    for (let count = 0; count < 5; count++) await later.find(REPOSITORY, B);
    expect(replicas.objects.asked).toHaveLength(1);
  });

  it('are written when the replica stops', async () => {
    const replicas = new Replicas();
    const replica = replicas.add({ firstMs: DAY_MS, againMs: DAY_MS });
    replica.note(REPOSITORY, A, replicas.nowMs);
    replica[Symbol.dispose]();
    await expect.poll(() => replicas.written()).toEqual({ [A]: replicas.nowMs });
  });
});
