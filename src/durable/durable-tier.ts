import { setTimeout as sleep } from 'node:timers/promises';

import type { Digest } from '../core/digest.ts';
import { parseEcrHost } from '../core/ecr-host.ts';
import type { Secret } from '../core/secret.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Events } from '../telemetry/events.ts';
import { DurableBlobs, type StoredContent } from './blobs/durable-blobs.ts';
import { DurableRecords } from './records/durable-records.ts';
import { isAmazonS3, type S3Place } from './s3/s3-api.ts';
import { S3Objects } from './s3/s3-objects.ts';

export interface DurableTierOptions extends S3Place {
  /** Beginning of all names; ends with a slash, or is empty. */
  readonly prefix: string;
  readonly blobs: 'auto' | 'always' | 'never';
  readonly bytesPerSecond: number;
  /** Key with which replicas seal records. */
  readonly key: Secret | undefined;
  readonly upstreams: readonly { readonly name: string; readonly host: string }[];
  readonly events: Events;
  readonly logger: Logger;
  /** Waits between two looks for unfinished uploads; rejects when `signal` aborts. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** An upload that began so long ago belongs to no running process: even 5 TB take less. */
const OLD_UPLOAD_MS = 24 * 3_600_000;
/** Replicas that started together do not all look at the same time. */
const SWEEP_MS = { least: 18 * 3_600_000, most: 30 * 3_600_000 };
/** Orchestrators kill a process some seconds after it was told to stop. */
const DRAIN_MS = 5_000;

/** The bucket behind the disks of the replicas: blobs, and the records that say what is known of them. */
export class DurableTier implements AsyncDisposable {
  /** `undefined` if no blobs are kept. */
  readonly blobs: DurableBlobs | undefined;
  readonly records: DurableRecords;
  readonly #objects: S3Objects;
  readonly #closing = new AbortController();
  readonly #options: DurableTierOptions;
  #sweeps: Promise<void> | undefined;

  private constructor(objects: S3Objects, region: string, options: DurableTierOptions) {
    const { prefix, blobs, bytesPerSecond, key, events, upstreams, endpoint } = options;
    const shared = { objects, prefix, events };
    const isBeside = (name: string): boolean => {
      const host = parseEcrHost(upstreams.find((upstream) => upstream.name === name)?.host ?? '');
      return isAmazonS3(endpoint) && host?.kind === 'private' && host.region === region;
    };
    const keeps = (upstream: string): boolean => blobs === 'always' || !isBeside(upstream);
    this.#objects = objects;
    this.#options = options;
    this.records = new DurableRecords({ ...shared, key });
    this.blobs = blobs === 'never' ? undefined : new DurableBlobs({ ...shared, keeps, bytesPerSecond });
  }

  /** Does not wait for the bucket. @throws SpandrelError CONFIG_INVALID if nothing says its region */
  static async open(options: DurableTierOptions): Promise<DurableTier> {
    const { events } = options;
    const objects = await S3Objects.open({ place: options, events });
    return new DurableTier(objects, await objects.region(), options);
  }

  /** What the last requests say of the bucket. */
  get state(): 'ready' | 'lost' {
    return this.#objects.gate.isOpen ? 'lost' : 'ready';
  }

  /** Begins to copy blobs. @param open opens a complete blob of the local store */
  copyFrom(open: (digest: Digest) => Promise<StoredContent | undefined>): void {
    this.blobs?.copyFrom(open);
    this.#sweeps ??= this.#sweepUploads();
  }

  /**
   * Aborts what dead processes have left, now and once a day. The first request also shows at once whether
   * the bucket can be used. Failures are counted and logged.
   */
  async #sweepUploads(): Promise<void> {
    const { prefix, logger, pause = pauseUnheld } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted)
      try {
        await this.#objects
          .abortOldUploads(`${prefix}blobs/`, OLD_UPLOAD_MS, signal)
          .catch((error: unknown) => {
            if (!signal.aborted) logger.debug({ err: error }, 'unfinished uploads remain');
          });
        await pause(SWEEP_MS.least + Math.random() * (SWEEP_MS.most - SWEEP_MS.least), signal);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
  }

  /** Writes what waits, for some seconds at most. */
  async [Symbol.asyncDispose](): Promise<void> {
    const queues = [this.records, ...(this.blobs === undefined ? [] : [this.blobs])];
    await Promise.all(queues.map((queue) => queue.drain(DRAIN_MS)));
    this.#closing.abort(new DOMException('the proxy is being stopped', 'AbortError'));
    await Promise.all([this.#sweeps, ...queues.map((queue) => queue[Symbol.asyncDispose]())]);
    await this.#objects[Symbol.asyncDispose]();
  }
}

async function pauseUnheld(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false });
}
