import { describe, expect, it } from 'vitest';

import type { LaidStart, LayStartInput } from '../../../src/boot/profiles/profile-worker.ts';
import { StartLearner } from '../../../src/boot/profiles/start-learner.ts';
import type { LearnedProfiles } from '../../../src/boot/profiles/learned-profiles.ts';
import type { ObservedStart } from '../../../src/boot/profiles/repository-profile.ts';
import type { Start } from '../../../src/boot/starts/start.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { START_OUTCOMES } from '../../../src/telemetry/start-outcomes.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { rangeReads, readTrace } from '../../helpers/starts/start-traces.ts';

const APP = parseRawText('bin/app');
const READ: LaidStart = {
  touched: [{ path: APP, bytes: 10, readShare: 1, order: 0 }],
  present: new Map(),
  coarseReads: 0,
  unknownLayers: 0,
};
const NOTHING: LaidStart = { ...READ, touched: [] };

function start(more: Partial<Start> = {}): Start {
  const reads = rangeReads(readTrace('lean'));
  const mounted = [...new Set(reads.map(({ layer }) => layer))].map((layer) => ({ digest: layer, layer }));
  return {
    repository: 'up/app',
    beganAtMs: 0,
    mounted,
    reads: reads.filter(({ isProbe }) => !isProbe),
    isCut: false,
    end: 'silence',
    servedPaths: [],
    ...more,
  };
}

/** A learner whose thread gives `lay`. */
function learner(lay: (input: LayStartInput) => Promise<LaidStart>) {
  const learned: ObservedStart[] = [];
  const logger = collectingLogger();
  const events = new Events(logger);
  const profiles = {
    knownPaths: async () => [],
    learn: async (_repository: string, observed: ObservedStart) => void learned.push(observed),
  } as unknown as LearnedProfiles;
  const indexes = { has: async () => true, filePath: (digest: string) => digest };
  const pool = { tasks: { layStart: lay } };
  const made = new StartLearner({ profiles, indexes, pool, events, logger });
  const outcomes = async (): Promise<Record<string, number>> => {
    const { text } = await events.printMetrics();
    const counts = START_OUTCOMES.map((outcome) => {
      const [, count] = new RegExp(`starts_total\\{outcome="${outcome}"\\} (\\d+)`).exec(text) ?? [];
      return [outcome, Number(count)] as const;
    });
    return Object.fromEntries(counts.filter(([, count]) => count > 0));
  };
  return { made, learned, outcomes };
}

describe('a learner of starts', () => {
  it('gives the profile the files, the layers and the boot layer of a start', async () => {
    const inputs: LayStartInput[] = [];
    const { made, learned, outcomes } = learner(async (input) => {
      inputs.push(input);
      return READ;
    });
    const seen = start({ servedPaths: [APP] });
    made.note(seen);
    await made.settled();
    expect(await outcomes()).toEqual({ learned: 1 });
    expect(learned[0]?.layers).toEqual(seen.mounted.map(({ layer }) => layer));
    expect(learned[0]?.served).toEqual([APP]);
    expect([...(inputs[0]?.known ?? [])]).toEqual([APP]);
    // Each read belongs to one layer, and keeps its place among all.
    const orders = inputs[0]?.layers.flatMap(({ reads }) => reads.map(({ order }) => order)) ?? [];
    expect(orders.toSorted((a, b) => a - b)).toEqual(seen.reads.map((_, place) => place));
  });

  it('learns nothing from starts that read no file, too large spans, or too much', async () => {
    const { made, learned, outcomes } = learner(async ({ layers }) =>
      layers[0]?.isTar === true ? NOTHING : { ...NOTHING, coarseReads: 3 },
    );
    made.note(start());
    made.note(start({ mounted: [{ digest: digestOf('tar'), layer: digestOf('layer') }] }));
    made.note(start({ isCut: true }));
    await made.settled();
    expect(await outcomes()).toEqual({ no_files: 1, too_coarse: 1, too_long: 1 });
    expect(learned).toEqual([]);
  });

  it('learns from some of many starts at once, and goes on after a failure', async () => {
    let isFirst = true;
    const { made, learned, outcomes } = learner(async () => {
      if (!isFirst) return READ;
      isFirst = false;
      throw new Error('the thread died');
    });
    for (let count = 0; count < 200; count++) made.note(start());
    await made.settled();
    const { failed, learned: counted = 0, skipped = 0 } = await outcomes();
    expect(failed).toBe(1);
    expect(learned).toHaveLength(counted);
    expect(counted).toBeGreaterThan(10);
    expect(counted).toBeLessThanOrEqual(65);
    expect(1 + counted + skipped).toBe(200);
  });

  it('leaves what waits when it is disposed of', async () => {
    const gate = Promise.withResolvers<LaidStart>();
    const { made, outcomes } = learner(() => gate.promise);
    made.note(start());
    made.note(start());
    const over = made[Symbol.asyncDispose]();
    gate.resolve(READ);
    await over;
    expect(await outcomes()).toEqual({ learned: 1, skipped: 1 });
  });
});
