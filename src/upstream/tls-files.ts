import { getCACertificates } from 'node:tls';

import { SpandrelError } from '../core/errors.ts';
import { ChangingFile } from './changing-file.ts';

/** Where the PEM files for the connections to one upstream are. */
export interface TlsFilePaths {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** PEM texts; a change of any of the files makes it another object. */
export interface TlsMaterial {
  /** Authorities that are trusted; the usual ones when not given. */
  readonly ca?: string[];
  /** What the proxy shows to the upstream itself, and to nobody else. */
  readonly client?: { readonly cert: string; readonly key: string };
}

/** Private authority and client certificate of an upstream, read again when they are exchanged. */
export class TlsFiles {
  readonly #upstream: string;
  readonly #files: ReadonlyMap<string, ChangingFile<string>>;
  #held: { readonly texts: readonly string[]; readonly material: TlsMaterial } | undefined;

  constructor(upstream: string, paths: TlsFilePaths) {
    this.#upstream = upstream;
    const given = Object.entries(paths).filter((entry): entry is [string, string] => entry[1] !== undefined);
    this.#files = new Map(given.map(([name, path]) => [name, new ChangingFile(path, String)]));
  }

  /** @throws SpandrelError CONFIG_INVALID if a file cannot be read */
  async read(): Promise<TlsMaterial> {
    const texts = new Map<string, string>();
    for (const [name, file] of this.#files) texts.set(name, await this.#readFile(name, file));
    const values = [...texts.values()];
    if (this.#held?.texts.every((text, place) => text === values[place]) !== true)
      this.#held = { texts: values, material: materialOf(texts) };
    return this.#held.material;
  }

  async #readFile(name: string, file: ChangingFile<string>): Promise<string> {
    try {
      return await file.read();
    } catch (error) {
      const words = `upstreams: the ${name} file of ${this.#upstream} cannot be read`;
      throw new SpandrelError('CONFIG_INVALID', words, { cause: error });
    }
  }
}

function materialOf(texts: ReadonlyMap<string, string>): TlsMaterial {
  const [ca, cert, key] = ['ca', 'cert', 'key'].map((name) => texts.get(name));
  return {
    // A private registry may keep its blobs in a public bucket, so the usual authorities stay.
    ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
    ...(cert === undefined || key === undefined ? {} : { client: { cert, key } }),
  };
}
