import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

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
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    const list = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { images: GoldenImage[] };
    this.images = list.images;
  }

  /** Those in this repository, without the larger zTOCs. */
  static small(): GoldenImages {
    return new GoldenImages(resolve(import.meta.dirname, '../fixtures/golden'));
  }

  /** `SPANDREL_GOLDEN`, or `../shared/golden` beside the repository; `undefined` where there is none. */
  static large(): GoldenImages | undefined {
    const folder = process.env['SPANDREL_GOLDEN'] ?? resolve(import.meta.dirname, '../../../shared/golden');
    return existsSync(join(folder, 'golden.json')) ? new GoldenImages(folder) : undefined;
  }

  layout(image: GoldenImage): string {
    return join(this.#folder, image.layout);
  }

  /** The files that a conversion must have made, by their names in the layout. */
  expectedFiles({ expectedDir }: GoldenRun): ReadonlyMap<string, Buffer> {
    if (expectedDir === undefined) return new Map();
    const folder = join(this.#folder, expectedDir);
    const blobs = join('blobs', 'sha256');
    const names = readdirSync(join(folder, blobs)).map((name) => join(blobs, name));
    return new Map(['index.json', ...names].map((name) => [name, readFileSync(join(folder, name))]));
  }
}
