import { BlobChecker } from '../clients/blob-checker.ts';
import { type ClientConnection, openConnection } from '../clients/client-connection.ts';
import { ReceivingConnection } from '../clients/receiving-connection.ts';
import type { SampleBlob, SampleImage } from './sample-image.ts';
import type { Wire } from '../clients/wire.ts';

/** One pull of an image by one client. */
export interface SamplePull {
  /** Milliseconds from the first request to the first byte of the large layer. */
  readonly firstByteMs: number;
  readonly totalMs: number;
}

/** Layers that containerd fetches concurrently. */
const PARALLEL_BLOBS = 3;

/** Pulls sample images, and compares every byte with the files that they were made from. */
export class SamplePuller {
  readonly #url: string;
  readonly #wire: Wire;
  readonly #repository: string;
  readonly #image: SampleImage;
  readonly #checker: BlobChecker;
  readonly #buffer = ReceivingConnection.receiveBuffer();

  /** @param repository its name at the server */
  constructor(url: string, repository: string, image: SampleImage, wire: Wire = 'http') {
    this.#wire = wire;
    this.#url = url;
    this.#repository = repository;
    this.#image = image;
    this.#checker = new BlobChecker(repository);
  }

  /**
   * Pulls the manifest, then config and layers: three at a time on three connections, or on one with HTTP/2.
   * @throws Error for anything wrong
   */
  async pull(): Promise<SamplePull> {
    const startedMs = performance.now();
    const { manifest, config, layers } = this.#image;
    using connections = new DisposableStack();
    const open = async (): Promise<ClientConnection> =>
      connections.use(await openConnection(this.#url, this.#wire, this.#buffer));
    const first = await open();
    await this.#fetchManifest(first, manifest);
    const queue = [...layers, config];
    let firstByteMs = Number.NaN;
    const worker = async (): Promise<void> => {
      const connection = this.#wire === 'tls h2' ? first : await open();
      for (let blob = queue.shift(); blob !== undefined; blob = queue.shift()) {
        const askedMs = performance.now() - startedMs;
        const reception = await this.#checker.fetch(connection, blob);
        if (blob === layers[0]) firstByteMs = askedMs + reception.firstByteMs;
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_BLOBS }, worker));
    return { firstByteMs, totalMs: performance.now() - startedMs };
  }

  async #fetchManifest(connection: ClientConnection, { digest, mediaType, size }: SampleBlob): Promise<void> {
    const path = `/v2/${this.#repository}/manifests/latest`;
    const { status, bytes } = await connection.get(path, { accept: mediaType });
    if (status !== 200 || bytes !== size) throw new Error(`${digest}: status ${status}, ${bytes} bytes`);
  }
}
