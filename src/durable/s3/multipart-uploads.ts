import type { ConditionalWrites } from './conditional-writes.ts';
import { digestHex, digestOfLarge } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { steadyNow } from '../../core/steady-now.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { Events } from '../../telemetry/events.ts';
import type { LargeContent, WriteOutcome } from '../objects/object-store.ts';
import type { S3Api, UploadedPart } from './s3-api.ts';
import { hasStatus } from './s3-fault.ts';
import type { StoreGate } from './store-gate.ts';

export interface MultipartUploadsDeps {
  readonly api: Pick<S3Api, 'beginUpload' | 'putPart' | 'completeUpload' | 'abortUpload' | 'listUploads'>;
  readonly gate: StoreGate;
  readonly conditional: ConditionalWrites;
  readonly partBytes?: number | undefined;
  readonly events: Events;
}

/** The size that the S3 performance guidelines advise. */
const PART_BYTES = 8 * 2 ** 20;
/** "Amazon S3 multipart upload limits". */
const MAX_PARTS = 10_000;
/** Of parts of one object in memory at the same time; of an object of more than 300 GB, one part. */
const MAX_BYTES = 4 * PART_BYTES;
const MAX_ATTEMPTS = 3;
/** An upload is aborted also if what began it was aborted. */
const ABORT_MS = 5_000;

/** Writes large objects in parts. */
export class MultipartUploads {
  readonly #deps: MultipartUploadsDeps;

  constructor(deps: MultipartUploadsDeps) {
    this.#deps = deps;
  }

  /**
   * Writes an object, if there is none of the name. If another writer of the same object interferes (409), S3
   * wants the whole upload again.
   */
  async write(name: string, content: LargeContent, signal: AbortSignal): Promise<WriteOutcome> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const outcome = await this.#upload(name, content, signal);
      if (outcome !== 'conflict') return outcome;
    }
    throw new SpandrelError('UPSTREAM_PROTOCOL', 'object store: other writers of the object interfere');
  }

  async #upload(
    name: string,
    content: LargeContent,
    signal: AbortSignal,
  ): Promise<WriteOutcome | 'conflict'> {
    const { api, gate, conditional, events } = this.#deps;
    const id = await gate.run('part', signal, () => api.beginUpload(name, signal));
    try {
      const parts = await this.#sendParts(name, id, content, signal);
      const outcome = await gate.run('put', signal, async (): Promise<WriteOutcome | 'conflict'> => {
        try {
          await conditional.run((ifAbsent) =>
            api.completeUpload(name, { UploadId: id, parts, ifAbsent }, signal),
          );
          return 'written';
        } catch (error) {
          if (hasStatus(error, 412)) return 'exists';
          if (hasStatus(error, 409)) return 'conflict';
          throw error;
        }
      });
      if (outcome !== 'conflict') events.durable.responded('put', outcome === 'written' ? 'ok' : 'exists');
      if (outcome !== 'written') await this.#abort(name, id);
      return outcome;
    } catch (error) {
      await this.#abort(name, id);
      throw error;
    }
  }

  async #sendParts(
    name: string,
    UploadId: string,
    content: LargeContent,
    signal: AbortSignal,
  ): Promise<UploadedPart[]> {
    const { api, gate, partBytes = PART_BYTES, events } = this.#deps;
    const step = Math.max(partBytes, Math.ceil(content.sizeBytes / MAX_PARTS));
    const count = Math.max(1, Math.ceil(content.sizeBytes / step));
    const numbers = Array.from({ length: count }, (_, index) => index + 1);
    const sending = new Set<Promise<unknown>>();
    const send = async (PartNumber: number): Promise<UploadedPart> => {
      const start = (PartNumber - 1) * step;
      const range = { start, end: Math.min(start + step, content.sizeBytes) };
      const Body = await content.read(range, signal);
      const sha256 = digestHex(await digestOfLarge(Body));
      const part = await gate.run('part', signal, () =>
        api.putPart(name, { UploadId, PartNumber, Body, sha256 }, signal),
      );
      events.durable.responded('part', 'ok');
      events.durable.bytesWritten(Body.byteLength);
      return part;
    };
    try {
      const work = async (number: number): Promise<UploadedPart> => {
        const sent = send(number);
        sending.add(sent);
        return sent;
      };
      const maxRunning = Math.max(1, Math.floor(MAX_BYTES / step));
      return await mapBounded(numbers, work, { maxRunning, signal });
    } finally {
      // A part that arrives after the upload is aborted may stay in the bucket.
      await Promise.allSettled(sending);
    }
  }

  /** Failures are ignored: unfinished uploads are looked for later, and a rule of the bucket ends them. */
  async #abort(name: string, id: string): Promise<void> {
    const { gate } = this.#deps;
    using limit = new TimeLimit(ABORT_MS);
    try {
      await gate.run('delete', limit.signal, () => this.#abortIfThere(name, id, limit.signal));
    } catch {
      // It was counted.
    }
  }

  /** Aborts uploads that began longer ago than `ageMs`. */
  async abortOld(prefix: string, ageMs: number, signal: AbortSignal): Promise<void> {
    const { api, gate, events } = this.#deps;
    const uploads = await gate.run('list', signal, () => api.listUploads(prefix, signal));
    events.durable.responded('list', 'ok');
    const old = uploads.filter(({ begunAtMs }) => steadyNow() - begunAtMs >= ageMs);
    let aborted = 0;
    for (const { name, id } of old)
      if (await gate.run('delete', signal, () => this.#abortIfThere(name, id, signal))) aborted++;
    if (aborted > 0) events.durable.uploadsAborted(aborted);
  }

  /** @returns false if another replica has aborted it */
  async #abortIfThere(name: string, id: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#deps.api.abortUpload(name, id, signal);
      return true;
    } catch (error) {
      if (hasStatus(error, 404)) return false;
      throw error;
    }
  }
}
