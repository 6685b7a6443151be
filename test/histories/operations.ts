import type { Replica } from './replica.ts';

/** A blob in the admin API. */
export interface ListedBlob {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly state: 'complete' | 'partial';
}

export interface ListedJob {
  readonly id: string;
  readonly image: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly error?: { readonly code: string; readonly message: string };
}

/** The admin API of a replica. */
export class Operations {
  readonly #replica: Replica;

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** @returns the status; 0 without a response */
  async warm(image: string): Promise<number> {
    return this.#status('POST', '/api/v1/warm', JSON.stringify({ image }));
  }

  async delete(digest: string): Promise<number> {
    return this.#status('DELETE', `/api/v1/blobs/${digest}`);
  }

  async blobs(): Promise<readonly ListedBlob[]> {
    return (await this.#json<{ blobs: ListedBlob[] }>('/api/v1/blobs')).blobs;
  }

  async jobs(): Promise<readonly ListedJob[]> {
    return (await this.#json<{ jobs: ListedJob[] }>('/api/v1/jobs')).jobs;
  }

  /** All metrics by name with labels. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    const lines = (await this.printedMetrics()).split('\n');
    return new Map(
      lines
        .filter((line) => line !== '' && !line.startsWith('#'))
        .map((line) => {
          const space = line.lastIndexOf(' ');
          return [line.slice(0, space), Number(line.slice(space + 1))];
        }),
    );
  }

  async printedMetrics(): Promise<string> {
    const { body } = await this.#replica.patrons.ask(`${this.#replica.adminUrl}/metrics`, {});
    return body.toString();
  }

  async readyz(): Promise<number> {
    return this.#status('GET', '/readyz');
  }

  async #status(method: string, path: string, body?: string): Promise<number> {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    try {
      const url = `${this.#replica.adminUrl}${path}`;
      return (
        await this.#replica.patrons.ask(url, { method, headers, ...(body === undefined ? {} : { body }) })
      ).status;
    } catch {
      return 0;
    }
  }

  async #json<T>(path: string): Promise<T> {
    const { body } = await this.#replica.patrons.ask(`${this.#replica.adminUrl}${path}`, {});
    return JSON.parse(body.toString()) as T;
  }
}
