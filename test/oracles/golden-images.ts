import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { findCase, GoldenFolder } from './golden-folder.ts';

/** What `soci` made of an image; see the README beside the vectors. */
export interface GoldenImage {
  readonly case: string;
  readonly what: string;
  readonly layout: string;
  readonly runs: readonly GoldenRun[];
  readonly v1?: {
    readonly options: readonly string[];
    readonly sociIndexesV1: readonly { readonly digest: string; readonly subject: string }[];
  };
}

export interface GoldenRun {
  /** Flags of `soci convert`. */
  readonly options: readonly string[];
  readonly expectedDir?: string;
  /** The input is the result of the run before. */
  readonly input?: string;
  readonly expected: { readonly error: string } | { readonly topIndex: { readonly digest: string } };
}

/** A folder of golden images with its list. */
export class GoldenImages {
  readonly images: readonly GoldenImage[];
  readonly #folder: GoldenFolder;

  constructor(folder: GoldenFolder) {
    this.#folder = folder;
    this.images = (folder.readJson() as { images: GoldenImage[] }).images;
  }

  /** Those in this repository, without the larger zTOCs. */
  static small(): GoldenImages {
    return new GoldenImages(GoldenFolder.small());
  }

  /** Those of the large set, if it is there. */
  static large(): GoldenImages | undefined {
    const folder = GoldenFolder.large();
    return folder && new GoldenImages(folder);
  }

  image(name: string): GoldenImage {
    return findCase(this.images, name);
  }

  layout(image: GoldenImage): string {
    return this.#folder.path(image.layout);
  }

  /** The files that a conversion must have made, by their names in the layout. */
  expectedFiles({ expectedDir }: GoldenRun): ReadonlyMap<string, Buffer> {
    if (expectedDir === undefined) return new Map();
    const folder = this.#folder.path(expectedDir);
    const blobs = join('blobs', 'sha256');
    const names = readdirSync(join(folder, blobs)).map((name) => join(blobs, name));
    return new Map(['index.json', ...names].map((name) => [name, readFileSync(join(folder, name))]));
  }
}
