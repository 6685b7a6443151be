import type { DigestFiles } from '../blobs/shelves/digest-files.ts';
import type { BuiltTarZtoc } from '../build/tar/build-tar-ztoc.ts';
import type { ByteCache } from '../cache/byte-cache.ts';
import { type Digest, digestOf, isDigest } from '../core/digest.ts';
import { ERRORS, type ErrorCode, isSpandrelError } from '../core/errors.ts';
import { isJsonObject } from '../core/json/parse-json.ts';
import { tryParseJson } from '../core/json/try-parse-json.ts';
import type { NoZtocReason } from '../index/layer-summary.ts';
import { decodeSharedIndex, encodeSharedIndex } from './shared-index.ts';
import type { ZtocStore } from './ztoc-store.ts';

/** A stored zTOC. */
export interface TarZtoc {
  readonly spanBytes: number;
  /** Absent if there is a reason against it. */
  readonly ztoc?: { readonly digest: Digest; readonly sizeBytes: number };
  readonly reason?: NoZtocReason;
}

export interface TarZtocFilesDeps {
  /** What the zTOCs are over: the tars of layers, or gzip layers themselves. */
  readonly of: 'tar' | 'gzip';
  /** Small records: which zTOC a layer has. */
  readonly records: DigestFiles;
  readonly ztocs: ZtocStore;
  /** Where replicas share them. */
  readonly shared: ByteCache | undefined;
  readonly maxTocBytes: number;
}

/** Increase it with every change of the record or of what a build makes of a layer. */
const VERSION = 1;
const NO_ZTOC = new Uint8Array(0);

/** zTOCs besides those of indexes, by layer and span size: on disk, and shared by replicas. */
export class TarZtocFiles {
  readonly #deps: TarZtocFilesDeps;

  constructor(deps: TarZtocFilesDeps) {
    this.#deps = deps;
  }

  /**
   * A stored one, from this replica or another.
   * @throws SpandrelError STORE_FAILED, STORE_FULL
   */
  async find(layer: Digest, spanBytes: number): Promise<TarZtoc | undefined> {
    const stored = await this.#findStored(layer, spanBytes);
    if (stored === undefined) return this.#fetchShared(layer, spanBytes);
    this.#deps.shared?.keep?.(this.sharedKey(layer, spanBytes), () => this.#encodeStored(layer, stored));
    return stored;
  }

  /** As replicas share it. */
  async #encodeStored(layer: Digest, found: TarZtoc): Promise<Uint8Array | undefined> {
    const ztoc =
      found.ztoc === undefined ? NO_ZTOC : await this.#deps.ztocs.readCompressed(found.ztoc.digest);
    return ztoc && encodeSharedIndex({ index: encode(layer, found), ztoc });
  }

  /** @throws SpandrelError STORE_FAILED, STORE_FULL */
  async keep(layer: Digest, { spanBytes, ztoc, reason }: BuiltTarZtoc): Promise<TarZtoc> {
    const { records, ztocs, shared } = this.#deps;
    const stored = ztoc === undefined ? NO_ZTOC : await ztocs.put(ztoc.bytes, ztoc.digest);
    const kept: TarZtoc = {
      spanBytes,
      ...(ztoc === undefined ? {} : { ztoc: { digest: ztoc.digest, sizeBytes: ztoc.bytes.byteLength } }),
      ...(reason === undefined ? {} : { reason }),
    };
    const record = encode(layer, kept);
    await records.write(this.#recordKey(layer, spanBytes), record);
    await shared?.set(this.sharedKey(layer, spanBytes), encodeSharedIndex({ index: record, ztoc: stored }));
    return kept;
  }

  /** As {@link keep}, for one that can be built again: failures are ignored. */
  async tryKeep(layer: Digest, built: BuiltTarZtoc): Promise<void> {
    try {
      await this.keep(layer, built);
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED', 'RESOURCE_EXHAUSTED')) throw error;
    }
  }

  async #findStored(layer: Digest, spanBytes: number): Promise<TarZtoc | undefined> {
    const { records, ztocs } = this.#deps;
    const key = this.#recordKey(layer, spanBytes);
    const bytes = await records.read(key);
    if (bytes === undefined) return undefined;
    const found = decode(bytes, layer, spanBytes);
    if (found === undefined) await records.condemn(key);
    // The zTOC may have been evicted.
    return found?.ztoc === undefined || (await ztocs.has(found.ztoc.digest)) ? found : undefined;
  }

  /** Without a key, anybody could have written the entry: then the zTOC is built here too. */
  async #fetchShared(layer: Digest, spanBytes: number): Promise<TarZtoc | undefined> {
    const { shared, records, ztocs } = this.#deps;
    if (shared?.isAuthentic !== true) return undefined;
    const key = this.sharedKey(layer, spanBytes);
    const hit = await shared.get(key);
    if (hit === undefined) return undefined;
    const { record, ztoc } = trySplit(hit.bytes);
    const found = record && decode(record, layer, spanBytes);
    const isWhole =
      found !== undefined &&
      (found.ztoc === undefined || (await ztocs.putCompressed(ztoc, found.ztoc.digest)));
    if (!isWhole) {
      await shared.delete(key);
      return undefined;
    }
    await records.write(this.#recordKey(layer, spanBytes), encode(layer, found));
    return found;
  }

  /** A layer may have a zTOC with one limit and none with another. */
  #recordKey(layer: Digest, spanBytes: number): Digest {
    const { of, maxTocBytes } = this.#deps;
    return digestOf(`${of === 'tar' ? '' : `${of} `}${VERSION} ${maxTocBytes} ${spanBytes} ${layer}`);
  }

  /** Name of a zTOC in the shared tier. */
  sharedKey(layer: Digest, spanBytes: number): string {
    return `${this.#deps.of}-ztoc:${VERSION}:${this.#deps.maxTocBytes}:${spanBytes}:${layer}`;
  }
}

function trySplit(bytes: Uint8Array): { readonly record?: Uint8Array; readonly ztoc: Uint8Array } {
  try {
    const { index: record, ztoc } = decodeSharedIndex(bytes);
    return { record, ztoc };
  } catch (error) {
    if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw error;
    return { ztoc: NO_ZTOC };
  }
}

/** The digest of all that the record says, then the record. */
function encode(layer: Digest, kept: TarZtoc): Buffer {
  const text = JSON.stringify(kept);
  return Buffer.from(`${checksum(layer, text)} ${text}`);
}

/** `undefined` for a damaged record, or one of another layer or span size. */
function decode(bytes: Uint8Array, layer: Digest, spanBytes: number): TarZtoc | undefined {
  const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  const text = record.slice(record.indexOf(' ') + 1);
  if (record !== `${checksum(layer, text)} ${text}`) return undefined;
  const json = tryParseJson(text);
  if (!isJsonObject(json) || json['spanBytes'] !== spanBytes) return undefined;
  const ztoc = parseZtoc(json['ztoc']);
  const reason = parseReason(json['reason']);
  if ((ztoc === undefined) === (reason === undefined)) return undefined;
  return { spanBytes, ...(ztoc === undefined ? {} : { ztoc }), ...(reason === undefined ? {} : { reason }) };
}

function checksum(layer: Digest, text: string): Digest {
  return digestOf(`${layer} ${text}`);
}

function parseZtoc(json: unknown): TarZtoc['ztoc'] {
  if (!isJsonObject(json)) return undefined;
  const { digest, sizeBytes } = json;
  return typeof digest === 'string' && isDigest(digest) && typeof sizeBytes === 'number'
    ? { digest, sizeBytes }
    : undefined;
}

function parseReason(json: unknown): NoZtocReason | undefined {
  if (!isJsonObject(json)) return undefined;
  const { code, message } = json;
  return typeof code === 'string' && Object.hasOwn(ERRORS, code) && typeof message === 'string'
    ? { code: code as ErrorCode, message }
    : undefined;
}
