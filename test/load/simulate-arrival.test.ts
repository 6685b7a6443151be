import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { type Actor, EventQueue, Gate } from '../../load/simulation/event-queue.ts';
import { measuredValues } from '../../load/simulation/figures.ts';
import { type Arrival, simulateArrival } from '../../load/simulation/simulate-arrival.ts';
import { bytesOf, IMAGES, requestsOf, type StartForm } from '../../load/simulation/start-forms.ts';
import { Station } from '../../load/simulation/station.ts';
import type { ReportRow } from '../../load/scenario.ts';
import { scale } from '../../load/scenarios/scale.ts';
import { seededRandom } from '../helpers/seeded-random.ts';

const MEASURED = measuredValues();
const SEED = 11;

describe('a station', () => {
  /** Mean time in the queue of jobs that come at random (Poisson), each of which takes a second. */
  function meanWait(load: number, servers: number, jobs: number): number {
    const random = seededRandom(SEED);
    const queue = new EventQueue();
    const station = new Station(servers);
    let waited = 0;
    function* job(): Actor {
      const came = queue.nowSeconds;
      yield station.serve(came, 1);
      waited += queue.nowSeconds - came - 1;
    }
    let atSeconds = 0;
    for (let count = 0; count < jobs; count++) {
      atSeconds -= Math.log(1 - random()) / (load * servers);
      queue.add(atSeconds, job());
    }
    queue.run();
    return waited / jobs;
  }

  it.each([0.3, 0.5, 0.8])('with one server and load %d lets jobs wait as M/D/1 does', (load) => {
    // Pollaczek and Khinchine, for a constant service time of one.
    const expected = load / (2 * (1 - load));
    expect(meanWait(load, 1, 100_000) / expected).toBeCloseTo(1, 1);
  });

  it('with two servers lets jobs wait as M/D/2 does', () => {
    const [load, servers] = [0.8, 2];
    // M/M/2, and what a constant service time makes of it by the approximation of Cosmetatos.
    const exponential = load ** 2 / (1 - load ** 2);
    const more = ((1 - load) * (servers - 1) * (Math.sqrt(4 + 5 * servers) - 2)) / (16 * load * servers);
    expect(meanWait(load, servers, 100_000) / (0.5 * (1 + more) * exponential)).toBeCloseTo(1, 1);
  });

  it.each([1, 2, 3, 7])('with %d servers ends jobs of one moment in rounds', (servers) => {
    const station = new Station(servers);
    const ends = Array.from({ length: 10 }, () => station.serve(5, 2));
    expect(ends).toEqual(Array.from({ length: 10 }, (_, job) => 5 + 2 * (1 + Math.floor(job / servers))));
    expect(station.busySeconds).toBe(20);
  });
});

describe('an event queue', () => {
  it('runs actors in the order of time, those of one time as they came', () => {
    const random = seededRandom(SEED);
    const queue = new EventQueue();
    const seen: [number, number][] = [];
    function* actor(name: number): Actor {
      yield queue.nowSeconds;
      seen.push([queue.nowSeconds, name]);
    }
    const times = Array.from({ length: 1000 }, () => Math.floor(random() * 50));
    times.forEach((time, name) => queue.add(time, actor(name)));
    queue.run();
    const expected = times.map((time, name): [number, number] => [time, name]);
    expect(seen).toEqual(expected.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]));
  });

  it('refuses a time that is over', () => {
    const queue = new EventQueue();
    function* actor(): Actor {
      yield queue.nowSeconds - 1;
    }
    queue.add(3, actor());
    expect(() => queue.run()).toThrow(RangeError);
  });

  it('holds actors at a gate until it opens', () => {
    const queue = new EventQueue();
    const gate = new Gate();
    const passed: number[] = [];
    function* waiter(): Actor {
      yield gate;
      passed.push(queue.nowSeconds);
    }
    function* opener(): Actor {
      yield queue.nowSeconds + 1;
      gate.open(queue);
    }
    queue.add(1, waiter());
    queue.add(3, opener());
    queue.add(9, waiter());
    queue.run();
    expect(passed).toEqual([4, 9]);
  });
});

describe('a simulated arrival', () => {
  const [small] = IMAGES;
  if (small === undefined) throw new Error('no image');
  const READS: StartForm = {
    name: 'reads',
    documents: 0,
    streamBytes: 0,
    reads: 40,
    readBytes: 250_000,
    isInflated: true,
  };
  const arrival: Arrival = {
    form: READS,
    imageBytes: small.bytes,
    nodes: 200,
    replicas: 1,
    withinSeconds: 60,
    seed: SEED,
    state: 'warm',
  };

  it('of one node takes the sum of its parts', () => {
    const values = { ...MEASURED, nodeGbps: 1000 };
    const { startSeconds } = simulateArrival({ ...arrival, nodes: 1 }, values);
    const serving = 0.12e-3 + 250e-6 * 0.6;
    const network = 250_000 / (25e9 / 8);
    const each = 0.5e-3 + serving + network;
    expect(startSeconds).toHaveLength(1);
    expect(startSeconds[0]).toBeCloseTo(4 * 1.25e-3 + 1.5 + 40 * each, 9);
  });

  it.each(['serving', 'network'] as const)(
    'of more work than one replica can do lasts as long as its %s, and not much longer',
    (resource) => {
      const values =
        resource === 'network' ? { ...MEASURED, replicaGbps: 1 } : { ...MEASURED, sendCpuSecondsPerGb: 5 };
      const alone = simulateArrival({ ...arrival, nodes: 1 }, values).startSeconds[0] ?? Number.NaN;
      const all = simulateArrival({ ...arrival, nodes: 1000, withinSeconds: 1 }, values);
      const bound =
        resource === 'network' ? (1000 * 10e6 * 8) / 1e9 : 1000 * (5e-3 + 40 * (0.12e-3 + 250e-6 * 5));
      expect(all.busiest[resource]).toBeCloseTo(bound, 6);
      expect(all.totalSeconds).toBeGreaterThanOrEqual(bound);
      const { serving, network } = all.busiest;
      expect(all.totalSeconds).toBeLessThanOrEqual(1 + serving + network + alone);
    },
  );

  it('of few nodes delays none by much', () => {
    const alone = simulateArrival({ ...arrival, nodes: 1 }, MEASURED).startSeconds[0] ?? Number.NaN;
    const { startSeconds } = simulateArrival({ ...arrival, nodes: 50 }, MEASURED);
    expect(Math.min(...startSeconds)).toBeCloseTo(alone, 2);
    expect(Math.max(...startSeconds)).toBeLessThan(1.1 * alone);
  });

  it.each(
    IMAGES.flatMap((image) => image.forms.map((form) => [image.name, form.name, image, form] as const)),
  )(
    'of %s, %s, sends each node its bytes and each replica the image, of which S3 sends a chunk once if replicas wait for each other',
    (_image, _form, { bytes }, form) => {
      const cold: Arrival = { ...arrival, form, imageBytes: bytes, nodes: 10, replicas: 3, state: 'cold' };
      const patient = simulateArrival(cold, { ...MEASURED, peerDeadlineSeconds: Infinity });
      const hasty = simulateArrival(cold, { ...MEASURED, peerDeadlineSeconds: -1 });
      for (const { startSeconds, sentToNodes, fetchedFromS3, sentToReplicas } of [patient, hasty]) {
        expect(startSeconds).toHaveLength(10);
        expect(sentToNodes / (10 * (bytesOf(form) + form.documents * 20_000))).toBeCloseTo(1, 9);
        expect((fetchedFromS3 + sentToReplicas) / (3 * bytes)).toBeCloseTo(1, 9);
      }
      expect(patient.fetchedFromS3 / bytes).toBeCloseTo(1, 9);
      expect(hasty.sentToReplicas).toBe(0);
      expect(requestsOf(form)).toBeGreaterThan(form.documents);
    },
  );

  it('is the same for the same seed, and another for another', () => {
    const cold: Arrival = { ...arrival, replicas: 3, state: 'cold' };
    const first = simulateArrival(cold, MEASURED);
    expect(simulateArrival(cold, MEASURED)).toEqual(first);
    expect(simulateArrival({ ...cold, seed: SEED + 1 }, MEASURED).startSeconds).not.toEqual(
      first.startSeconds,
    );
  });

  it('is faster with more replicas where they are what it waits for', () => {
    const busy: Arrival = { ...arrival, nodes: 1000, withinSeconds: 1 };
    const values = { ...MEASURED, sendCpuSecondsPerGb: 5 };
    const totals = [1, 2, 4].map((replicas) => simulateArrival({ ...busy, replicas }, values).totalSeconds);
    expect(totals[1]).toBeLessThan(0.6 * (totals[0] ?? 0));
    expect(totals[2]).toBeLessThan(0.6 * (totals[1] ?? 0));
  });
});

describe('the saved results of scale', () => {
  it('are what the simulation gives now (npm run load -- scale renews them)', async () => {
    const saved = readFileSync(new URL('../../load/results/scale.json', import.meta.url), 'utf8');
    const { rows } = JSON.parse(saved) as { rows: ReportRow[] };
    const again = await scale.run({ clients: [100], capOf: () => undefined, log: () => undefined });
    expect(again.rows).toEqual(rows.filter(({ nodes }) => nodes === 100));
  });
});
