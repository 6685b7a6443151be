import type { MessagePort } from 'node:worker_threads';

import type { Digest } from '../core/digest.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import type { EngineName } from '../inflate/engine.ts';
import type { LayerLimits } from './build-layer.ts';
import type { BuiltTarZtoc } from './tar/build-tar-ztoc.ts';
import type { RawText } from '../tar/raw-text.ts';
import type { Span } from '../ztoc/span.ts';
import type { TarSpanBytes } from './tar/tar-span-bytes.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/** Settings of a build, in a form that can be sent to a thread. */
export interface BuildSettings {
  /** The file with the layer, which may still be growing. */
  readonly path: string;
  readonly layerDigest: Digest;
  readonly layerBytes: ProvenBytes;
  readonly compression: LayerCompression;
  /** For gzip. */
  readonly engine: EngineName;
  readonly spanBytes: number;
  /** Size of the read spans. */
  readonly readSpanBytes: number;
  readonly limits: LayerLimits;
  /** A pushed zTOC of the layer, to be compared with the layer. Its span size replaces `spanBytes`. */
  readonly pushedZtoc?: Uint8Array | undefined;
  /** Also make a zTOC over the tar with such spans. */
  readonly tarSpanBytes?: TarSpanBytes | undefined;
  /** Where the index is written; the directory must exist. */
  readonly indexPath: string;
}

/** Input of the task `buildLayer`. */
export interface BuildInput extends BuildSettings {
  /** Shared memory with the size of the growing file. */
  readonly growth: SharedArrayBuffer;
  readonly port: MessagePort;
}

/** Result of the task `buildLayer`, besides the index file. */
export interface BuildOutput {
  /** The zTOC to publish. */
  readonly ztoc?: Uint8Array<ArrayBuffer>;
  /** The zTOC over the tar, if it was wanted and could be made in the same pass. */
  readonly tar?: BuiltTarZtoc;
  /** What is wrong with the pushed zTOC. */
  readonly refused?: string;
}

/** Messages from the thread during a build. */
export type BuildProgress =
  | { readonly kind: 'started' }
  | { readonly kind: 'span'; readonly span: Span }
  /** Records of a `ReadSpanTable` that follow those sent before. */
  | { readonly kind: 'readSpans'; readonly records: Uint8Array }
  | { readonly kind: 'file'; readonly path: RawText; readonly entry: TocEntry };

/**
 * Messages to the thread. It replies to `find`, which has a cleaned path, with `file` once it has seen such
 * an entry; if there is none, the end of the build is the reply.
 */
export type BuildRequest = { readonly kind: 'find'; readonly path: RawText } | { readonly kind: 'abort' };
