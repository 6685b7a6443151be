/** A blob that a client reads from a proxy, whole. */
export class BlobPull {
  readonly #chunks: Uint8Array[] = [];
  readonly #begun = Promise.withResolvers<void>();
  /** All of it, or nothing if the response breaks. */
  readonly bytes: Promise<Buffer | undefined>;

  constructor({ url }: { readonly url: string }, digest: string) {
    this.bytes = this.#read(`${url}/v2/up/app/blobs/${digest}`).catch(() => undefined);
  }

  /** Resolves when the response has begun, or has failed. */
  get begun(): Promise<unknown> {
    return Promise.race([this.#begun.promise, this.bytes]);
  }

  get receivedBytes(): number {
    return this.#chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  async #read(url: string): Promise<Buffer> {
    const { body } = await fetch(url);
    this.#begun.resolve();
    for await (const chunk of body ?? []) this.#chunks.push(chunk);
    return Buffer.concat(this.#chunks);
  }
}
