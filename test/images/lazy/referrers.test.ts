import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { Patience } from '../../../src/cache/patience.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import { waitFor } from '../../../src/core/wait-for.ts';
import { Referrers, type ReferrersDeps } from '../../../src/images/lazy/referrers.ts';
import { Events } from '../../../src/telemetry/events.ts';
import type { Target } from '../../../src/upstream/target.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';

const HOLD_MS = 1000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** An image without referrers at the upstream, whose own index is never built. */
function list(signal: AbortSignal): Promise<unknown> {
  const never = Promise.withResolvers<never>().promise;
  const deps = {
    manifests: { get: () => Promise.resolve({ manifest: {} }) },
    indexer: { sociIndex: (...args: [Target, object, string, AbortSignal]) => waitFor(never, args[3]) },
    policies: { of: () => ({ v1: true, holdMs: HOLD_MS }) },
    patience: new Patience(HOLD_MS),
    events: new Events(collectingLogger()),
  } as unknown as ReferrersDeps;
  const client = {
    name: 'up',
    upstreamName: (name: string) => name,
    listReferrers: () => Promise.resolve([]),
  };
  const target = { client, repository: 'app' } as unknown as Target;
  return new Referrers(deps).list(target, digestOf('image'), [], signal);
}

it('a list is given without our index when the hold of that is over', async () => {
  const listing = list(new AbortController().signal);
  await vi.advanceTimersByTimeAsync(HOLD_MS);
  expect(await listing).toEqual([]);
});

it('a list fails with the reason of its caller if the hold of our index ends at the same time', async () => {
  const caller = new AbortController();
  const listing = list(caller.signal);
  const failure = listing.catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(HOLD_MS - 1);
  // Nothing else runs between the two, as on a busy machine.
  vi.advanceTimersByTime(1);
  caller.abort(new SpandrelError('ANSWER_PENDING', 'the client would give up'));
  expect(await failure).toMatchObject({ code: 'ANSWER_PENDING' });
});
