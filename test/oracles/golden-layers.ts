import type { Digest } from '../../src/core/digest.ts';
import { findCase, GoldenFolder } from './golden-folder.ts';

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
  readonly #folder: GoldenFolder;

  constructor(folder: GoldenFolder) {
    this.#folder = folder;
    this.layers = (folder.readJson() as { layers: GoldenLayer[] }).layers;
  }

  /** Those in this repository. */
  static small(): GoldenLayers {
    return new GoldenLayers(GoldenFolder.small());
  }

  /** Those of the large set, if it is there. */
  static large(): GoldenLayers | undefined {
    const folder = GoldenFolder.large();
    return folder && new GoldenLayers(folder);
  }

  layer(name: string): GoldenLayer {
    return findCase(this.layers, name);
  }

  path(layer: GoldenLayer): string {
    return this.#folder.path(layer.file);
  }

  /** Parts of the zTOC in readable form. */
  details(layer: GoldenLayer): GoldenDetails | undefined {
    if (layer.details === undefined) return undefined;
    return this.#folder.readJson(layer.details) as GoldenDetails;
  }
}
