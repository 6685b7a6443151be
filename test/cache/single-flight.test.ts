import { describe, expect, it } from 'vitest';

import { SingleFlight } from '../../src/cache/single-flight.ts';
import { Events } from '../../src/telemetry/events.ts';
import { collectingLogger } from '../helpers/collected-output.ts';

describe('SingleFlight', () => {
  it('does the work once for concurrent callers, and counts those that joined', async () => {
    const events = new Events(collectingLogger());
    const flights = new SingleFlight<number>('span', events);
    const { promise, resolve } = Promise.withResolvers<number>();
    let runs = 0;
    const work = (): Promise<number> => {
      runs++;
      return promise;
    };
    const asked = Array.from({ length: 100 }, () => flights.run('key', work));
    const other = flights.run('other key', () => Promise.resolve(2));
    resolve(1);
    expect(await Promise.all(asked)).toEqual(Array.from({ length: 100 }, () => 1));
    expect(await other).toBe(2);
    expect(runs).toBe(1);
    expect((await events.printMetrics()).text).toContain(
      'spandrel_single_flight_joined_total{what="span"} 99',
    );
  });

  it('keeps neither results nor failures', async () => {
    const flights = new SingleFlight<number>('span', new Events(collectingLogger()));
    await expect(flights.run('key', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await expect(flights.run('key', () => Promise.resolve(1))).resolves.toBe(1);
    await expect(flights.run('key', () => Promise.resolve(2))).resolves.toBe(2);
  });

  it('goes on for the others when a caller stops waiting', async () => {
    const flights = new SingleFlight<number>('span', new Events(collectingLogger()));
    const { promise, resolve } = Promise.withResolvers<number>();
    const leaving = new AbortController();
    const left = flights.run('key', () => promise, leaving.signal);
    const stayed = flights.run('key', () => Promise.resolve(7));
    leaving.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
    resolve(1);
    await expect(stayed).resolves.toBe(1);
  });
});
