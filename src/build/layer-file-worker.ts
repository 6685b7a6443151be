import type { MessagePort } from 'node:worker_threads';

import { rangeLength } from '../core/byte-range.ts';
import { TransferredResult } from '../threads/transferred-result.ts';
import { OutputHashes } from './output-hash.ts';
import { indexLayerFile, type LayerFileIndex, type LayerFileInput } from './index-layer-file.ts';

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
