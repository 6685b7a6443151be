import { describe, expect, it } from 'vitest';

import { Memo } from '../../src/cache/memo.ts';
import { Events } from '../../src/telemetry/events.ts';
import { collectingLogger } from '../helpers/collected-output.ts';

function numbered(): { make: () => Promise<{ run: number }>; runs: () => number } {
  let runs = 0;
  return { make: () => Promise.resolve({ run: ++runs }), runs: () => runs };
}

describe('Memo', () => {
  it('makes a value once for concurrent callers, and keeps it for later ones', async () => {
    const memo = new Memo<{ run: number }>('index', new Events(collectingLogger()), { maxEntries: 10 });
    const { make, runs } = numbered();
    const asked = await Promise.all(Array.from({ length: 10 }, () => memo.get('key', make)));
    expect(new Set([...asked, await memo.get('key', make)])).toEqual(new Set([{ run: 1 }]));
    expect(runs()).toBe(1);
  });

  it('does not keep a failure', async () => {
    const memo = new Memo<{ run: number }>('index', new Events(collectingLogger()), { maxEntries: 10 });
    await expect(memo.get('key', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await expect(memo.get('key', numbered().make)).resolves.toEqual({ run: 1 });
  });

  it('evicts the least recently used value beyond its bound', async () => {
    const memo = new Memo<{ run: number }>('index', new Events(collectingLogger()), { maxEntries: 2 });
    const { make } = numbered();
    for (const key of ['a', 'b', 'a', 'c']) await memo.get(key, make);
    expect(await memo.get('a', make)).toEqual({ run: 1 });
    expect(await memo.get('b', make)).toEqual({ run: 4 });
  });

  it('goes on making a value when a caller stops waiting', async () => {
    const memo = new Memo<{ run: number }>('index', new Events(collectingLogger()), { maxEntries: 2 });
    const { promise, resolve } = Promise.withResolvers<{ run: number }>();
    const leaving = new AbortController();
    const left = memo.get('key', () => promise, leaving.signal);
    leaving.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
    resolve({ run: 1 });
    await promise;
    expect(await memo.get('key', numbered().make)).toEqual({ run: 1 });
  });
});
