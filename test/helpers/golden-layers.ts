import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import type { Digest } from '../../src/core/digest.ts';

/** What the `soci` command made of a layer; see the README beside the vectors. */
export interface GoldenLayer {
  readonly case: string;
  readonly what: string;
  readonly file: string;
  readonly mediaType: string;
  readonly size: number;
  readonly digest: Digest;
  readonly diffId: Digest | null;
  readonly options: { readonly spanSize: number };
  readonly expected: GoldenZtoc | { readonly error: string };
  readonly details?: string;
}

export interface GoldenZtoc {
  readonly ztocDigest: Digest;
  readonly ztocSize: number;
  readonly spans: number;
  readonly maxSpanId: number;
  readonly files: number;
  readonly uncompressedArchiveSize: number;
  readonly uncompressedBytes: number;
  readonly mountable: boolean;
}

/** Parts of a zTOC in readable form. */
export interface GoldenDetails {
  readonly checkpoints?: readonly unknown[];
  readonly zinfoHex?: string;
  readonly spanDigests: readonly string[];
  readonly files: readonly unknown[];
}

/** A folder of golden vectors with its list of layers. */
export class GoldenLayers {
  readonly layers: readonly GoldenLayer[];
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    const list = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { layers: GoldenLayer[] };
    this.layers = list.layers;
  }

  /** The small set in this repository. */
  static small(): GoldenLayers {
    return new GoldenLayers(resolve(import.meta.dirname, '../fixtures/golden'));
  }

  /** The large set: `SPANDREL_GOLDEN`, or `../shared/golden` beside the repository; `undefined` where there is none. */
  static large(): GoldenLayers | undefined {
    const folder = process.env['SPANDREL_GOLDEN'] ?? resolve(import.meta.dirname, '../../../shared/golden');
    return existsSync(join(folder, 'golden.json')) ? new GoldenLayers(folder) : undefined;
  }

  path(layer: GoldenLayer): string {
    return join(this.#folder, layer.file);
  }

  /** Parts of the zTOC in readable form. */
  details(layer: GoldenLayer): GoldenDetails | undefined {
    if (layer.details === undefined) return undefined;
    return JSON.parse(readFileSync(join(this.#folder, layer.details), 'utf8')) as GoldenDetails;
  }
}
