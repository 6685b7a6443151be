import { describe, expect, it } from 'vitest';

import { RequestLog, type RequestStart } from './request-log.ts';
import { ManualClock } from '../helpers/manual-clock.ts';

const START: RequestStart = {
  listener: 'registry',
  connectionId: 1,
  method: 'GET',
  path: '/v2/',
  query: '',
  headers: {},
};

describe('RequestLog', () => {
  it('keeps the newest entries, and counts all', () => {
    const log = new RequestLog(new ManualClock(), 3);
    for (let i = 0; i < 5; i++) {
      const entry = log.begin({ ...START, path: `/${i}` });
      log.sent(entry, 10);
      log.end(entry, 'complete');
    }
    expect([...log].map(({ path }) => path)).toEqual(['/2', '/3', '/4']);
    expect([log.requestCount, log.bytesSent, log.inFlight, log.peakInFlight]).toEqual([5, 50, 0, 1]);
  });

  it('knows how many requests there were at once', () => {
    const log = new RequestLog(new ManualClock());
    const entries = [log.begin(START), log.begin(START), log.begin(START)];
    for (const entry of entries.slice(1)) log.end(entry, 'complete');
    expect([log.inFlight, log.peakInFlight]).toEqual([1, 3]);
    log.clear();
    expect([log.requestCount, log.entries.length, log.inFlight, log.peakInFlight]).toEqual([0, 0, 1, 1]);
  });

  it('notes times and how a request has ended', () => {
    const clock = new ManualClock();
    const log = new RequestLog(clock);
    const begin = clock.now();
    const entry = log.begin(START);
    clock.advance(30);
    log.end(entry, 'cut');
    expect(entry).toMatchObject({ startedAtMs: begin, endedAtMs: begin + 30, outcome: 'cut' });
  });

  it('keeps the scheme of the credentials only', () => {
    const log = new RequestLog(new ManualClock());
    const { headers, range } = log.begin({
      ...START,
      headers: { authorization: 'Basic c2VjcmV0', cookie: 'x', range: 'bytes=0-1' },
    });
    expect(headers).toEqual({ authorization: 'Basic', range: 'bytes=0-1' });
    expect(range).toBe('bytes=0-1');
  });

  it('waits for requests that have come, that come, and for what becomes of them', async () => {
    const log = new RequestLog(new ManualClock());
    const first = log.begin(START);
    expect(await log.waitFor(({ path }) => path === '/v2/')).toBe(first);
    const sent = log.waitFor(({ bytesSent }) => bytesSent >= 20);
    const second = log.waitFor(({ path }) => path === '/second');
    log.sent(first, 10);
    log.begin({ ...START, path: '/second' });
    log.sent(first, 10);
    expect(await sent).toBe(first);
    expect(await second).toMatchObject({ path: '/second' });
  });

  it('leaves a wait when the signal is aborted', async () => {
    const waiting = new RequestLog(new ManualClock()).waitFor(
      () => false,
      AbortSignal.abort(new Error('enough')),
    );
    await expect(waiting).rejects.toThrow('enough');
  });
});
