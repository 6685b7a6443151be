import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import type { SampleBlob, SampleImage } from '../samples/sample-image.ts';
import { CheckedBytes, WrongBytesError } from './blob-checker.ts';
import { ReceivingConnection } from './receiving-connection.ts';

/** One pull of an image. */
export interface PatientPull {
  readonly totalMs: number;
  /** Responses that broke, or were errors. */
  readonly retries: number;
  /** The longest time without a byte of the large layer. */
  readonly longestPauseMs: number;
}

/** Layers that containerd fetches concurrently. */
const PARALLEL_BLOBS = 3;
const MOST_TRIES = 40;
const PAUSE_MS = 100;

/**
 * Pulls an image as a container runtime does that retries: after a broken response it requests the rest. It
 * compares every byte, those of broken responses too.
 */
export class PatientPuller {
  readonly #url: string;
  readonly #repository: string;
  readonly #image: SampleImage;
  readonly #contents: ReadonlyMap<SampleBlob, Buffer>;
  readonly #buffer = ReceivingConnection.receiveBuffer();

  /** @param repository its name at the server */
  constructor(url: string, repository: string, image: SampleImage) {
    this.#url = url;
    this.#repository = repository;
    this.#image = image;
    const blobs = [image.manifest, image.config, ...image.layers];
    this.#contents = new Map(blobs.map((blob) => [blob, readFileSync(blob.path)]));
  }

  /** @throws WrongBytesError; Error if one blob fails too often */
  async pull(): Promise<PatientPull> {
    const startedMs = performance.now();
    const { manifest, config, layers } = this.#image;
    const state = { retries: 0, longestPauseMs: 0 };
    await this.#fetch(manifest, 'manifests/latest', state);
    const queue = [...layers, config];
    const worker = async (): Promise<void> => {
      for (let blob = queue.shift(); blob !== undefined; blob = queue.shift())
        await this.#fetch(blob, `blobs/${blob.digest}`, state);
    };
    await Promise.all(Array.from({ length: PARALLEL_BLOBS }, worker));
    return { totalMs: performance.now() - startedMs, ...state };
  }

  async #fetch(
    blob: SampleBlob,
    path: string,
    state: { retries: number; longestPauseMs: number },
  ): Promise<void> {
    const content = this.#contents.get(blob) ?? Buffer.alloc(0);
    const isLarge = blob === this.#image.layers[0];
    let place = 0;
    let seenMs = performance.now();
    const see = (bytes: number): void => {
      if (isLarge) state.longestPauseMs = Math.max(state.longestPauseMs, performance.now() - seenMs);
      seenMs = performance.now();
      place += bytes;
    };
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      try {
        await this.#fetchRest(`/v2/${this.#repository}/${path}`, blob, content, place, see);
        return;
      } catch (error) {
        if (error instanceof WrongBytesError) throw error;
        state.retries++;
        await sleep(PAUSE_MS);
      }
    }
    throw new Error(`${blob.digest} failed ${MOST_TRIES} times`);
  }

  async #fetchRest(
    path: string,
    blob: SampleBlob,
    content: Buffer,
    start: number,
    see: (bytes: number) => void,
  ): Promise<void> {
    using connection = await ReceivingConnection.open(this.#url, this.#buffer);
    const checked = new CheckedBytes(content, start, blob.size);
    const expected = start === 0 ? 200 : 206;
    const request = {
      accept: blob.mediaType,
      ...(start === 0 ? {} : { range: `${start}-` }),
      onPiece(piece: Buffer, status: number): void {
        if (status !== expected) return;
        checked.see(piece);
        see(piece.length);
      },
    };
    let status: number;
    try {
      ({ status } = await connection.get(path, request));
    } catch (error) {
      checked.endEarly(blob.digest);
      throw error;
    }
    if (status !== expected) throw new Error(`${path}: status ${status}`);
    checked.end(blob.digest);
  }
}
