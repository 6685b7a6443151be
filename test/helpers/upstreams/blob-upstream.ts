import { readdir } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';

import { BlobStore } from '../../../src/blobs/blob-store.ts';
import { parseConfig } from '../../../src/config/parse-config.ts';
import type { ByteRange } from '../../../src/core/byte-range.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { Events } from '../../../src/telemetry/events.ts';
import type { BlobSource } from '../../../src/core/sources/blob-source.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { collectingLogger } from '../collected-output.ts';
import { ScriptedUpstream, type SeenRequest } from './scripted-upstream.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** One request for the blob. */
export interface BlobRequest {
  readonly seen: SeenRequest;
  readonly response: ServerResponse;
  /** Counts from 0 over all requests for the blob. */
  readonly place: number;
  /** What it asks for; all of the blob if it does not say. */
  readonly range: ByteRange;
  readonly blob: Buffer;
}

/** Answers a request in a way of its own, and says so; what it leaves is answered as it should be. */
export type Fault = (request: BlobRequest) => boolean;

export interface FaultyStoreOptions {
  readonly fault: Fault;
  /** Folder of the store; without one it gets a new one. */
  readonly root?: string;
  readonly chunkBytes?: number;
  readonly stallTimeoutMs?: number;
}

/** A store, and an upstream registry with one blob over HTTP, with faults where a test wants them. */
export class FaultyStore implements AsyncDisposable {
  readonly store: BlobStore;
  readonly source: BlobSource;
  readonly events = new Events(collectingLogger());
  readonly upstream: ScriptedUpstream;
  /** Ranges that were asked for, `bytes=0-9`, in order. */
  readonly ranges: string[];
  /** How long the transport was told to wait before it tries again; it does not. */
  readonly pauses: number[];
  readonly #root: string;
  readonly #open: AsyncDisposableStack;

  private constructor(
    parts: Pick<FaultyStore, 'store' | 'source' | 'upstream' | 'ranges' | 'pauses'>,
    root: string,
    open: AsyncDisposableStack,
  ) {
    this.store = parts.store;
    this.source = parts.source;
    this.upstream = parts.upstream;
    this.ranges = parts.ranges;
    this.pauses = parts.pauses;
    this.#root = root;
    this.#open = open;
  }

  static async start(blob: Buffer, options: FaultyStoreOptions): Promise<FaultyStore> {
    const { fault, chunkBytes = 64 * 1024, stallTimeoutMs = 400 } = options;
    await using open = new AsyncDisposableStack();
    const ranges: string[] = [];
    const pauses: number[] = [];
    const upstream = open.use(
      await ScriptedUpstream.start((seen, response) => {
        const asked = seen.headers.range;
        const [, first = '0', last = String(blob.byteLength - 1)] =
          /^bytes=(\d+)-(\d+)$/.exec(asked ?? '') ?? [];
        const range = { start: Number(first), end: Math.min(blob.byteLength, Number(last) + 1) };
        const place = ranges.push(asked ?? 'all') - 1;
        if (!fault({ seen, response, place, range, blob })) sendRange(response, range, blob);
      }),
    );
    const config = parseConfig({
      yaml: '',
      environment: {
        SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'test', url: upstream.url }]),
        SPANDREL_UPSTREAM_RETRIES: '2',
        // What fills do is looked at here; whom they may ask is another question.
        SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '100000',
        SPANDREL_UPSTREAM_STALL_TIMEOUT_MS: String(stallTimeoutMs),
      },
    });
    const logger = collectingLogger();
    const events = new Events(logger);
    const pause = async (delayMs: number): Promise<void> => {
      pauses.push(delayMs);
    };
    const { upstream: timing, limits } = config;
    const upstreams = open.use(
      await createUpstreams({ upstreams: config.upstreams ?? [], timing, limits, events, logger, pause }),
    );
    const source = upstreams.clients[0]?.blobSource('app', digestOf(blob));
    if (source === undefined) throw new Error('there is one upstream');
    const root = options.root ?? open.use(await TemporaryFolder.create()).path;
    const fill = { parallel: 3, chunkBytes, stallTimeoutMs };
    const store = open.use(await BlobStore.open({ root, maxBytes: 2 ** 30, fill, events, logger }));
    return new FaultyStore({ store, source, upstream, ranges, pauses }, root, open.move());
  }

  /** Names in the folder of partial blobs, maps left out. */
  async partials(): Promise<string[]> {
    return (await readdir(join(this.#root, 'partial'))).filter((name) => !name.endsWith('.map'));
  }

  /** Files of complete blobs. */
  async complete(): Promise<string[]> {
    const entries = await readdir(join(this.#root, 'blobs'), { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open.disposeAsync();
  }
}

/** Answer as a registry should. */
export function sendRange(response: ServerResponse, range: ByteRange, blob: Buffer): void {
  sendHead(response, range, blob.byteLength, range.end - range.start);
  response.end(blob.subarray(range.start, range.end));
}

/** Status and headers of a part, with or without a length. */
export function sendHead(
  response: ServerResponse,
  range: ByteRange,
  totalBytes: number,
  lengthBytes?: number,
): void {
  response.writeHead(206, {
    'content-range': `bytes ${range.start}-${range.end - 1}/${totalBytes}`,
    ...(lengthBytes === undefined ? {} : { 'content-length': lengthBytes }),
  });
}
