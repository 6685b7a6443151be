import type { MessagePort } from 'node:worker_threads';

import { rangeLength } from '../core/byte-range.ts';
import { TransferredResult } from '../threads/transferred-result.ts';
import { OutputHashes } from './output/output-hash.ts';
import { type InflatedFile, inflateLayerFile, type InflateFileInput } from './inflate-layer-file.ts';
import { possibleTarSpanBytes } from './tar/tar-span-bytes.ts';
import {
  indexLayerFile,
  indexLayerStream,
  type LayerFileIndex,
  type LayerFileInput,
  type LayerIndexing,
} from './index-layer-file.ts';
import { receiveLayer } from './send-layer.ts';

// Entry of the worker threads of the offline commands: each export is a task of a `WorkerPool`.

export interface LayerFileTask extends LayerFileInput {
  /** Receives the number of compressed bytes that are done, now and then. */
  readonly port: MessagePort;
}

const outputHashes = new OutputHashes();

/** Task: see {@link indexLayerFile}. */
export async function indexLayer(input: LayerFileTask): Promise<TransferredResult<LayerFileIndex>> {
  const { port, ...layer } = input;
  try {
    using outputHash = await outputHashes.begin(rangeLength(layer.range));
    const index = await indexLayerFile(layer, (doneBytes) => port.postMessage(doneBytes, []), outputHash);
    return new TransferredResult(index, index.ztoc === undefined ? [] : [index.ztoc.bytes.buffer]);
  } finally {
    port.close();
  }
}

export interface LayerStreamTask extends LayerIndexing {
  /** Size of the layer. */
  readonly layerBytes: number;
  /** Where the layer arrives: see {@link receiveLayer}. */
  readonly port: MessagePort;
}

/** Task: see {@link indexLayerStream}. */
export async function indexStreamedLayer(input: LayerStreamTask): Promise<TransferredResult<LayerFileIndex>> {
  const { port, layerBytes, ...indexing } = input;
  try {
    using outputHash = await outputHashes.begin(layerBytes);
    const index = await indexLayerStream(receiveLayer(port), indexing, outputHash);
    return new TransferredResult(index, index.ztoc === undefined ? [] : [index.ztoc.bytes.buffer]);
  } finally {
    port.close();
  }
}

export interface InflateFileTask extends InflateFileInput {
  /** As {@link LayerFileTask.port}. */
  readonly port: MessagePort;
}

/** Task: see {@link inflateLayerFile}. */
export async function inflateLayer(input: InflateFileTask): Promise<TransferredResult<InflatedFile>> {
  const { port, ...layer } = input;
  try {
    const spanSizes = possibleTarSpanBytes(layer.spanBytes);
    using outputHash = await outputHashes.begin(rangeLength(layer.range), spanSizes);
    const inflated = await inflateLayerFile(
      layer,
      (doneBytes) => port.postMessage(doneBytes, []),
      outputHash,
    );
    return new TransferredResult(inflated, inflated.ztoc === undefined ? [] : [inflated.ztoc.bytes.buffer]);
  } finally {
    port.close();
  }
}
