import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from './scripted-registry.ts';
import type { FaultAction } from './faults.ts';

const BLOB = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 7) & 255);

describe('a fault', () => {
  let registry: ScriptedRegistry;
  let blobUrl: string;

  beforeEach(async () => {
    registry = await ScriptedRegistry.start();
    blobUrl = `${registry.url}/v2/app/blobs/${await registry.addBlob('app', BLOB)}`;
  });
  afterEach(async () => registry[Symbol.asyncDispose]());

  function setFault(action: FaultAction): void {
    registry.faults.set([{ match: { path: /\/blobs\// }, action }]);
  }

  /** What arrives before the answer ends or breaks. */
  async function read(
    headers: Record<string, string> = {},
  ): Promise<{ status?: number | undefined; length?: string | undefined; bytes: Buffer; error?: string }> {
    const chunks: Buffer[] = [];
    const sending = request(blobUrl, { headers, agent: false });
    // A connection that breaks tells the request as well as the response.
    sending.on('error', () => undefined);
    sending.end();
    let response: IncomingMessage | undefined;
    try {
      [response] = (await once(sending, 'response')) as [IncomingMessage];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      await once(response, 'end');
      return {
        status: response.statusCode,
        length: response.headers['content-length'],
        bytes: Buffer.concat(chunks),
      };
    } catch (error) {
      return {
        status: response?.statusCode,
        length: response?.headers['content-length'],
        bytes: Buffer.concat(chunks),
        error: (error as { code: string }).code,
      };
    }
  }

  async function logged(): Promise<unknown> {
    return registry.requests.waitFor(({ endedAtMs }) => endedAtMs !== undefined);
  }

  it('of kind status answers something else, as often as it says', async () => {
    registry.faults.set([
      {
        match: { method: 'GET' },
        times: 2,
        action: { kind: 'status', status: 429, headers: { 'retry-after': '1' } },
      },
    ]);
    const first = await fetch(blobUrl);
    expect([first.status, first.headers.get('retry-after')]).toEqual([429, '1']);
    expect(await first.json()).toMatchObject({ errors: [{ code: 'INTERNAL' }] });
    expect([(await read()).status, (await read()).status]).toEqual([429, 200]);
    registry.faults.set([{ match: {}, action: { kind: 'status', status: 200, body: 'hello' } }]);
    expect(await (await fetch(blobUrl)).text()).toBe('hello');
  });

  it('of kind reset breaks the connection before the answer', async () => {
    setFault({ kind: 'reset' });
    expect(await read()).toEqual({
      status: undefined,
      length: undefined,
      bytes: Buffer.alloc(0),
      error: 'ECONNRESET',
    });
    expect(await logged()).toMatchObject({ bytesSent: 0, outcome: 'cut' });
    expect(await logged()).not.toHaveProperty('status');
  });

  it.each([0, 1, 100_000])('of kind reset breaks the connection after %d bytes', async (afterBytes) => {
    setFault({ kind: 'reset', afterBytes });
    const { status, bytes, error } = await read();
    expect([status, error]).toEqual([200, 'ECONNRESET']);
    expect(Buffer.from(BLOB.subarray(0, bytes.length)).equals(bytes)).toBe(true);
    expect(bytes.length).toBeLessThanOrEqual(afterBytes);
    expect(await logged()).toMatchObject({ status: 200, bytesSent: afterBytes, outcome: 'cut' });
  });

  it.each([0, 1, 70_000])(
    'of kind truncate closes in good order after %d bytes, whatever Content-Length has promised',
    async (afterBytes) => {
      setFault({ kind: 'truncate', afterBytes });
      const { length, bytes, error } = await read();
      expect([length, error]).toEqual(['200000', 'ECONNRESET']);
      expect(bytes.equals(BLOB.subarray(0, afterBytes))).toBe(true);
      expect(await logged()).toMatchObject({ bytesSent: afterBytes, outcome: 'cut' });
    },
  );

  it('of kind stall sends nothing more until the client leaves', async () => {
    setFault({ kind: 'stall', afterBytes: 1000 });
    const aborter = new AbortController();
    const response = await fetch(blobUrl, { signal: aborter.signal });
    const { value } = (await response.body?.getReader().read()) ?? {};
    expect(value).toHaveLength(1000);
    expect(registry.requests.inFlight).toBe(1);
    aborter.abort();
    expect(await logged()).toMatchObject({ bytesSent: 1000, outcome: 'cut' });
    expect(registry.requests.inFlight).toBe(0);
  });

  it('of kind corrupt flips one bit, in whole answers and in ranges that have the byte', async () => {
    setFault({ kind: 'corrupt', atByte: 150_000 });
    const expected = Buffer.from(BLOB);
    expected.writeUInt8(expected.readUInt8(150_000) ^ 1, 150_000);
    expect((await read()).bytes.equals(expected)).toBe(true);
    expect(
      (await read({ range: 'bytes=149990-150010' })).bytes.equals(expected.subarray(149_990, 150_011)),
    ).toBe(true);
    expect((await read({ range: 'bytes=0-149999' })).bytes.equals(BLOB.subarray(0, 150_000))).toBe(true);
    registry.faults.clear();
    expect((await read()).bytes.equals(BLOB)).toBe(true);
  });

  it('of kind corrupt flips one bit of every body, at a share of it, and tells of each use', async () => {
    const used: string[] = [];
    const action = { kind: 'corrupt', atShare: 0.5 } as const;
    registry.faults.set([
      { match: { method: 'GET' }, times: 2, action, onUse: ({ path }) => used.push(path) },
    ]);
    const [whole, part] = [Buffer.from(BLOB), Buffer.from(BLOB.subarray(100, 200))];
    for (const body of [whole, part]) {
      const middle = body.length / 2;
      body.writeUInt8(body.readUInt8(middle) ^ 1, middle);
    }
    expect((await read()).bytes.equals(whole)).toBe(true);
    expect((await read({ range: 'bytes=100-199' })).bytes.equals(part)).toBe(true);
    expect((await read()).bytes.equals(BLOB)).toBe(true);
    expect(used).toHaveLength(2);
  });

  it('of kind length answers well-formed, but longer or shorter', async () => {
    setFault({ kind: 'length', delta: -10 });
    expect(await read()).toEqual({
      status: 200,
      length: '199990',
      bytes: Buffer.from(BLOB.subarray(0, 199_990)),
    });
    setFault({ kind: 'length', delta: 10 });
    expect(await read()).toEqual({
      status: 200,
      length: '200010',
      bytes: Buffer.concat([BLOB, Buffer.alloc(10)]),
    });
  });

  it('of kind hold answers when it is released', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    setFault({ kind: 'hold', until: promise });
    const answered = read();
    const entry = await registry.requests.waitFor(({ path }) => path.includes('/blobs/'));
    expect([entry.status, registry.requests.inFlight]).toEqual([undefined, 1]);
    resolve();
    expect((await answered).bytes.equals(BLOB)).toBe(true);
    expect(registry.requests.peakInFlight).toBe(1);
  });

  it('in a rule of a test is told in the log', async () => {
    registry.faults.set([
      {
        match: () => {
          throw new Error('a bad rule');
        },
        action: { kind: 'reset' },
      },
    ]);
    expect((await read()).error).toBe('ECONNRESET');
    expect(await logged()).toMatchObject({ failure: 'Error: a bad rule' });
  });

  it('does not keep the registry from closing', async () => {
    registry.faults.set([{ match: { path: /stall/ }, action: { kind: 'status', status: 200 } }]);
    registry.faults.add(
      { match: {}, times: 1, action: { kind: 'stall', afterBytes: 10 } },
      { match: {}, action: { kind: 'hold', until: Promise.withResolvers().promise } },
    );
    const broken = [read(), read()];
    await registry.requests.waitFor(() => registry.requests.inFlight === 2);
    await registry[Symbol.asyncDispose]();
    expect((await Promise.all(broken)).map(({ error }) => error)).toEqual(['ECONNRESET', 'ECONNRESET']);
    await registry.requests.waitFor(() => registry.requests.inFlight === 0);
    expect(registry.requests.entries.map(({ outcome }) => outcome)).toEqual(['cut', 'cut']);
  });
});
