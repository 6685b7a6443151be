import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

import { Growth } from '../blobs/growth.ts';
import { type Digest, digestOf, finishDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { defaultEngine } from '../inflate/default-engine.ts';
import { TransferredResult } from '../inflate/transferred-result.ts';
import { readZstdFrame } from '../inflate/zstd-inflater.ts';
import type { BuildInput, BuildOutput, BuildProgress, BuildRequest } from './build-messages.ts';
import { findDifference, findMountProblem, ztocSpanBytes } from './check-pushed-ztoc.ts';
import { decodeZtoc } from './decode-ztoc.ts';
import { readGrowingFile, waitForGrowthEnd } from './growing-file.ts';
import { IndexWriter } from './index-writer.ts';
import { buildLayer as buildFromStream, type LayerBuild, type LayerLimits } from './layer-builder.ts';
import { summarizeLayer } from './summarize-layer.ts';
import { OutputHashes } from './output-hash.ts';
import { PathWatch } from './path-watch.ts';
import type { Span } from './span.ts';
import type { Ztoc } from './ztoc.ts';

// The entry of the worker threads: each export is a task of `WorkerPool.run`.

const outputHashes = new OutputHashes();

/** Task: build the index of a layer whose file may still grow, telling of spans and files on the way. */
export async function buildLayer(input: BuildInput): Promise<TransferredResult<BuildOutput>> {
  const { port } = input;
  const post = (message: BuildProgress): void => port.postMessage(message, []);
  const watch = new PathWatch((path, entry) => post({ kind: 'file', path, entry }));
  const stopping = new AbortController();
  port.on('message', (request: BuildRequest) => {
    if (request.kind === 'find') watch.find(request.path);
    else stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the build of the index has been stopped'));
  });
  post({ kind: 'started' });
  try {
    using writer = new IndexWriter(input.indexPath);
    const growth = new Growth(input.growth);
    const { signal } = stopping;
    const { path, layerBytes, compression, limits } = input;
    const pushed = input.pushedZtoc && new PushedZtoc(input.pushedZtoc, input.limits);
    const spanBytes = pushed?.spanBytes ?? input.spanBytes;
    const file = readGrowingFile({
      path,
      growth,
      start: 0,
      end: layerBytes,
      signal,
      fixedChunks: compression === 'zstd',
    });
    using outputHash = outputHashes.begin(layerBytes);
    const build = await buildFromStream(file, {
      compression,
      spanBytes,
      limits,
      engine: defaultEngine,
      writer,
      outputHash,
      onSpan: (span, window) => post({ kind: 'span', span, window }),
      onEntry: (entry, index, entries) => watch.add(entry, index, entries),
    });
    await waitForGrowthEnd(growth, signal);
    const own = summarizeLayer({ ...input, spanBytes }, build);
    const refused = pushed?.findProblem(build);
    const isAdopted = pushed !== undefined && refused === undefined;
    writer.finish(isAdopted ? { ...own, ztoc: pushed.descriptor, isPushed: true } : own, build.entries);
    const ztoc = own.ztoc === undefined || isAdopted ? undefined : build.ztoc?.bytes;
    const output = {
      ...(ztoc === undefined ? {} : { ztoc }),
      ...(refused === undefined ? {} : { refused }),
    };
    return new TransferredResult(output, ztoc === undefined ? [] : [ztoc.buffer]);
  } finally {
    port.close();
  }
}

/** A zTOC that somebody else has made of the layer. */
class PushedZtoc {
  readonly descriptor: { readonly digest: Digest; readonly sizeBytes: number };
  readonly spanBytes: number;
  readonly #ztoc: Ztoc;

  constructor(bytes: Uint8Array, limits: LayerLimits) {
    this.descriptor = { digest: digestOf(bytes), sizeBytes: bytes.length };
    this.#ztoc = decodeZtoc(bytes, limits);
    this.spanBytes = ztocSpanBytes(this.#ztoc);
  }

  /** In what it is wrong, now that the layer is known. */
  findProblem({ ztoc, reason }: LayerBuild): string | undefined {
    if (ztoc === undefined || reason !== undefined) return reason?.message ?? 'SOCI cannot index the layer';
    const difference = findDifference(this.#ztoc, decodeZtoc(ztoc.bytes));
    return difference && `the pushed zTOC is wrong in ${difference}`;
  }
}

export interface CheckZtocInput {
  readonly bytes: Uint8Array;
  /** Of the layer's blob, as the image has it. */
  readonly layerBytes: number;
  readonly limits: LayerLimits;
}

/**
 * Task: check what can be checked of a zTOC without its layer.
 * @throws SpandrelError INDEX_MALFORMED, INDEX_UNMOUNTABLE
 */
export function checkZtoc({ bytes, layerBytes, limits }: CheckZtocInput): void {
  const ztoc = decodeZtoc(bytes, limits);
  if (ztoc.compressedArchiveSize !== layerBytes)
    throw new SpandrelError('INDEX_MALFORMED', 'the zTOC was made of a layer of another size');
  const problem = findMountProblem(ztoc);
  if (problem !== undefined) throw new SpandrelError('INDEX_UNMOUNTABLE', problem);
}

export interface InflateSpanInput {
  /** The span's compressed bytes, all of them. */
  readonly compressed: Uint8Array;
  /** 32 KiB before the span, or nothing. */
  readonly window: Uint8Array;
  readonly bits: number;
  readonly digest: Digest;
  readonly crc32: number;
  readonly uncompressedLength: number;
}

/** Task: verify and decode a span of a gzip layer. @throws SpandrelError SPAN_CORRUPT */
export function inflateSpan(input: InflateSpanInput): TransferredResult<Uint8Array<ArrayBuffer>> {
  if (finishDigest(createHash('sha256').update(input.compressed)) !== input.digest) {
    throw new SpandrelError('SPAN_CORRUPT', 'the compressed bytes of a span do not match its digest');
  }
  const bytes = defaultEngine.inflateSpan(input);
  return new TransferredResult(bytes, [bytes.buffer]);
}

export interface ReadZstdSpanInput {
  readonly path: string;
  /** Shared memory of the file's growth. */
  readonly growth: SharedArrayBuffer;
  readonly span: Span;
}

/** Task: decode a span of a zstd layer. Costs the decoding of its frame from its start on. @throws SpandrelError SPAN_CORRUPT */
export async function readZstdSpan(
  input: ReadZstdSpanInput,
): Promise<TransferredResult<Uint8Array<ArrayBuffer>>> {
  const { compressed, uncompressed, frame, crc32: expected } = input.span;
  const frameStart = frame?.uncompressedStart ?? uncompressed.start;
  const bytes = new Uint8Array(uncompressed.end - uncompressed.start);
  const file = readGrowingFile({
    path: input.path,
    growth: new Growth(input.growth),
    start: frame?.compressedStart ?? compressed.start,
    end: compressed.end,
  });
  const range = { start: uncompressed.start - frameStart, end: uncompressed.end - frameStart };
  let at = 0;
  for await (const part of readZstdFrame({ compressed: file, uncompressed: range })) {
    bytes.set(part, at);
    at += part.length;
  }
  if (crc32(bytes) !== expected)
    throw new SpandrelError('SPAN_CORRUPT', 'a decoded span does not match its checksum');
  return new TransferredResult(bytes, [bytes.buffer]);
}
