import { Builder } from 'flatbuffers';

import { SpandrelError } from '../core/errors.ts';
import { FlatBuffer } from './flat-buffer.ts';

// soci-snapshotter `ztoc/compression/fbs/zinfo.fbs`
const SLOTS = { version: 0, spanSize: 1, size: 2 } as const;
const VERSION = 2;

/** Checkpoints of an uncompressed layer: slices of equal length. */
export interface TarZinfo {
  readonly spanBytes: number;
  /** Size of the layer. */
  readonly sizeBytes: number;
}

/** The zinfo blob of an uncompressed layer (soci-snapshotter `ztoc/compression/tar_zinfo.go`). */
export function encodeTarZinfo(zinfo: TarZinfo): Uint8Array<ArrayBuffer> {
  const builder = new Builder(64);
  builder.startObject(3);
  builder.addFieldInt32(SLOTS.version, VERSION, 0);
  builder.addFieldInt64(SLOTS.spanSize, BigInt(zinfo.spanBytes), 0n);
  builder.addFieldInt64(SLOTS.size, BigInt(zinfo.sizeBytes), 0n);
  builder.finish(builder.endObject());
  return new Uint8Array(builder.asUint8Array());
}

/** @throws SpandrelError INDEX_MALFORMED */
export function decodeTarZinfo(bytes: Uint8Array): TarZinfo {
  const table = new FlatBuffer(bytes).root();
  const spanBytes = table.int64(SLOTS.spanSize);
  const sizeBytes = table.int64(SLOTS.size);
  if (table.int32(SLOTS.version) !== VERSION || spanBytes < 1 || sizeBytes < 0) {
    throw new SpandrelError('INDEX_MALFORMED', 'the tar zinfo has an unknown version or impossible sizes');
  }
  return { spanBytes, sizeBytes };
}

/** The id of the last slice; -1 if there is none. */
export function tarMaxSpanId({ spanBytes, sizeBytes }: TarZinfo): number {
  return Math.ceil(sizeBytes / spanBytes) - 1;
}
