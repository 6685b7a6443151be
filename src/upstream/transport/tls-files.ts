import { createSecureContext, getCACertificates } from 'node:tls';

import { SpandrelError } from '../../core/errors.ts';
import { shortageFault } from '../../core/system/shortage.ts';
import { parseCertificates } from '../../core/parse-certificates.ts';
import { ChangingFile, type OnKept } from './changing-file.ts';

/** Paths of the PEM files for connections to one upstream. */
export interface TlsFilePaths {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** PEM texts. A change of any file creates a new object. */
export interface TlsMaterial {
  /** Trusted authorities; `undefined` means the default ones. */
  readonly ca?: string[];
  /** Client certificate, sent to the upstream itself only. */
  readonly client?: { readonly cert: string; readonly key: string };
}

/**
 * Private authority and client certificate of an upstream, read again when a file changes. Until all files
 * are valid and match, the previous material stays in use.
 */
export class TlsFiles {
  readonly #upstream: string;
  readonly #files: ReadonlyMap<string, ChangingFile<string>>;
  readonly #onKept: OnKept;
  #held: { readonly texts: readonly string[]; readonly material: TlsMaterial } | undefined;
  /** Texts that did not match. */
  #refused: readonly string[] = [];

  constructor(upstream: string, paths: TlsFilePaths, onKept: OnKept) {
    this.#upstream = upstream;
    this.#onKept = onKept;
    const given = Object.entries(paths).filter((entry): entry is [string, string] => entry[1] !== undefined);
    this.#files = new Map(given.map(([name, path]) => [name, new ChangingFile(path, String, onKept)]));
  }

  /**
   * @throws SpandrelError CONFIG_INVALID if a file cannot be read or the files do not match, and there is no
   * previous material; RESOURCE_EXHAUSTED
   */
  async read(): Promise<TlsMaterial> {
    const texts = new Map<string, string>();
    for (const [name, file] of this.#files) texts.set(name, await this.#readFile(name, file));
    const values = [...texts.values()];
    if (this.#held !== undefined && (isSame(this.#held.texts, values) || isSame(this.#refused, values)))
      return this.#held.material;
    try {
      this.#held = { texts: values, material: materialOf(texts) };
    } catch (error) {
      if (this.#held === undefined) {
        const words = `upstreams: ca, cert and key of ${this.#upstream}: ${(error as Error).message}`;
        throw new SpandrelError('CONFIG_INVALID', words, { cause: error });
      }
      this.#onKept(error);
      this.#refused = values;
    }
    return this.#held.material;
  }

  async #readFile(name: string, file: ChangingFile<string>): Promise<string> {
    try {
      return await file.read();
    } catch (error) {
      const words = `upstreams: ${name} of ${this.#upstream}: ${(error as Error).message}`;
      throw shortageFault(error, words) ?? new SpandrelError('CONFIG_INVALID', words, { cause: error });
    }
  }
}

function isSame(before: readonly string[], after: readonly string[]): boolean {
  return before.length === after.length && before.every((text, place) => text === after[place]);
}

/** @throws Error if a text is not PEM, or the key does not match the certificate */
function materialOf(texts: ReadonlyMap<string, string>): TlsMaterial {
  const [ca, cert, key] = ['ca', 'cert', 'key'].map((name) => texts.get(name));
  for (const pem of [ca, cert]) if (pem !== undefined) parseCertificates(pem);
  if (cert !== undefined && key !== undefined) createSecureContext({ cert, key });
  return {
    // A private registry may store its blobs in a public bucket, so the default authorities stay.
    ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
    ...(cert === undefined || key === undefined ? {} : { client: { cert, key } }),
  };
}
