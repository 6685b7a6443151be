import type { MessagePort } from 'node:worker_threads';

import type { Digest } from '../core/digest.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import type { EngineName } from '../inflate/engine.ts';
import type { LayerLimits } from './build-layer.ts';
import type { RawText } from '../tar/raw-text.ts';
import type { Span } from '../ztoc/span.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/** Plain values of a build, as they go to the thread. */
export interface BuildSettings {
  /** The file with the layer; may still grow. */
  readonly path: string;
  readonly layerDigest: Digest;
  readonly layerBytes: ProvenBytes;
  readonly compression: LayerCompression;
  /** For gzip. */
  readonly engine: EngineName;
  readonly spanBytes: number;
  /** Size of the spans that the layer is read by. */
  readonly readSpanBytes: number;
  readonly limits: LayerLimits;
  /** A zTOC of the layer that somebody else has made, to be compared: it decides the span size. */
  readonly pushedZtoc?: Uint8Array | undefined;
  /** Where the index is written; its directory exists. */
  readonly indexPath: string;
}

/** Input of the task `buildLayer`. */
export interface BuildInput extends BuildSettings {
  /** Shared memory of the file's growth. */
  readonly growth: SharedArrayBuffer;
  readonly port: MessagePort;
}

/** Result of the task `buildLayer`, besides the index file. */
export interface BuildOutput {
  /** For publishing. */
  readonly ztoc?: Uint8Array<ArrayBuffer>;
  /** In what the pushed zTOC is wrong. */
  readonly refused?: string;
}

/** From the thread, while it builds. */
export type BuildProgress =
  | { readonly kind: 'started' }
  | { readonly kind: 'span'; readonly span: Span }
  /** Those that have been added since: records of a `ReadSpanTable`. */
  | { readonly kind: 'readSpans'; readonly records: Uint8Array }
  | { readonly kind: 'file'; readonly path: RawText; readonly entry: TocEntry };

/** To the thread. A cleaned path is answered by `file` when such an entry has been seen; if none comes, by the end of the build. */
export type BuildRequest = { readonly kind: 'find'; readonly path: RawText } | { readonly kind: 'abort' };
