import { Growth } from '../blobs/files/growth.ts';
import { SpandrelError } from '../core/errors.ts';
import { engineNamed } from '../inflate/choose-engine.ts';
import { reportThreadFault } from '../threads/thread-fault.ts';
import { TransferredResult } from '../threads/transferred-result.ts';
import { runInBackground } from './run-in-background.ts';
import type { BuildInput, BuildOutput, BuildProgress, BuildRequest } from './build-settings.ts';
import { findZtocDifference } from '../ztoc/find-ztoc-difference.ts';
import { ztocSpanBytes } from '../ztoc/ztoc-spans.ts';
import { decodeZtoc } from '../ztoc/decode-ztoc.ts';
import { readGrowingFile, waitForGrowthEnd } from '../blobs/reads/read-growing-file.ts';
import { IndexWriter } from '../index/index-writer.ts';
import { buildLayer as buildFromStream, type LayerBuild, type LayerLimits } from './build-layer.ts';
import { type BuiltTar, buildTar as buildTarFromStream } from './tar/build-tar.ts';
import { likelyTarSpanBytes } from './tar/tar-span-bytes.ts';
import { summarizeLayer } from './summarize-layer.ts';
import { OutputHashes } from './output/output-hash.ts';
import { PathWatch } from './path-watch.ts';
import type { ReadSpanTable } from '../index/read-span-table.ts';
import type { Ztoc } from '../ztoc/ztoc.ts';

// Entry of the worker threads that build indexes: each export is a task of a `WorkerPool`.

runInBackground();
const outputHashes = new OutputHashes({ onFault: reportThreadFault });

/**
 * Task: builds the index of a layer whose file may still be growing, and reports spans and files on the way.
 */
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
    const { path, layerBytes, compression, readSpanBytes, limits } = input;
    const pushed = input.pushedZtoc && new PushedZtoc(input.pushedZtoc, input.limits);
    const spanBytes = pushed?.spanBytes ?? input.spanBytes;
    const readFrom = (start: number): AsyncIterable<Uint8Array> =>
      readGrowingFile({
        path,
        growth,
        start,
        end: layerBytes,
        signal,
        fixedChunks: compression === 'zstd',
      });
    const reporter = new ReadSpanReporter(writer.readSpans, post);
    const { tarSpanBytes } = input;
    using outputHash = await outputHashes.begin(
      layerBytes,
      tarSpanBytes === undefined ? [] : likelyTarSpanBytes(tarSpanBytes, layerBytes, compression),
    );
    const build = await buildFromStream(reporter.follow(readFrom(0)), {
      layerDigest: input.layerDigest,
      compression,
      spanBytes,
      readSpanBytes,
      limits,
      engine: engineNamed(input.engine),
      writer,
      outputHash,
      tarSpanBytes,
      reread: readFrom,
      onSpan: (span) => post({ kind: 'span', span }),
      onEntry: (entry, index, entries) => watch.add(entry, index, entries),
    });
    reporter.report();
    await waitForGrowthEnd(growth, signal);
    const own = summarizeLayer({ ...input, spanBytes }, build);
    const refused = pushed?.findProblem(build);
    writer.finish(own, build.entries);
    const ztoc = own.ztoc === undefined ? undefined : build.ztoc?.bytes;
    const output = {
      ...(ztoc === undefined ? {} : { ztoc }),
      ...(build.tar === undefined ? {} : { tar: build.tar }),
      ...(refused === undefined ? {} : { refused }),
    };
    const sent = [ztoc, build.tar?.ztoc?.bytes].flatMap((bytes) =>
      bytes === undefined ? [] : [bytes.buffer],
    );
    return new TransferredResult(output, sent);
  } finally {
    port.close();
  }
}

export interface BuildTarInput extends Pick<
  BuildInput,
  'path' | 'growth' | 'layerBytes' | 'compression' | 'engine' | 'limits'
> {
  readonly spanBytes: number;
}

/**
 * Task: the zTOC over the tar of a layer that has an index, from its file, which may still be growing.
 * @throws SpandrelError as {@link buildTarFromStream}
 */
export async function buildTar(input: BuildTarInput): Promise<TransferredResult<BuiltTar>> {
  const { path, layerBytes: end, compression, limits, spanBytes } = input;
  const growth = new Growth(input.growth);
  const readFrom = (start: number): AsyncIterable<Uint8Array> =>
    readGrowingFile({ path, growth, start, end, fixedChunks: compression === 'zstd' });
  using outputHash = await outputHashes.begin(end, [spanBytes]);
  const built = await buildTarFromStream(readFrom(0), {
    compression,
    engine: engineNamed(input.engine),
    maxZstdWindowBytes: limits.maxZstdWindowBytes,
    reread: readFrom,
    limits,
    outputHash,
    spanBytes,
  });
  await waitForGrowthEnd(growth);
  return new TransferredResult(built, built.ztoc === undefined ? [] : [built.ztoc.bytes.buffer]);
}

export interface CompareZtocsInput {
  readonly pushed: Uint8Array;
  /** The right zTOC of the same layer. */
  readonly own: Uint8Array;
  readonly limits: LayerLimits;
}

/** Task: what is wrong with a pushed zTOC, if its spans have the same size as ours. */
export function compareZtocs({
  pushed,
  own,
  limits,
}: CompareZtocsInput): { readonly problem: string | undefined } | 'other-spans' {
  const [theirs, ours] = [decodeZtoc(pushed, limits), decodeZtoc(own)];
  if (ztocSpanBytes(theirs) !== ztocSpanBytes(ours)) return 'other-spans';
  return { problem: findProblem(theirs, ours) };
}

function findProblem(pushed: Ztoc, own: Ztoc): string | undefined {
  const difference = findZtocDifference(pushed, own);
  return difference && `the pushed zTOC is wrong in ${difference}`;
}

/** Reports read spans after each chunk of the layer. */
class ReadSpanReporter {
  readonly #readSpans: ReadSpanTable;
  readonly #post: (message: BuildProgress) => void;
  #reported = 0;

  constructor(readSpans: ReadSpanTable, post: (message: BuildProgress) => void) {
    this.#readSpans = readSpans;
    this.#post = post;
  }

  report(): void {
    if (this.#readSpans.length === this.#reported) return;
    this.#post({ kind: 'readSpans', records: new Uint8Array(this.#readSpans.encode(this.#reported)) });
    this.#reported = this.#readSpans.length;
  }

  /** Passes the chunks on and reports after each. */
  async *follow(layer: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of layer) {
      yield chunk;
      this.report();
    }
  }
}

/** A pushed zTOC of the layer. */
class PushedZtoc {
  readonly spanBytes: number;
  readonly #ztoc: Ztoc;

  constructor(bytes: Uint8Array, limits: LayerLimits) {
    this.#ztoc = decodeZtoc(bytes, limits);
    this.spanBytes = ztocSpanBytes(this.#ztoc);
  }

  /** What is wrong with it, once the layer is known. */
  findProblem({ ztoc, reason }: LayerBuild): string | undefined {
    if (ztoc === undefined || reason !== undefined) return reason?.message ?? 'SOCI cannot index the layer';
    return findProblem(this.#ztoc, decodeZtoc(ztoc.bytes));
  }
}
