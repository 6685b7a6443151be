import { MotoServer } from './moto-server.ts';

/** A bucket of moto's S3, which plays Amazon S3, and what is in it. */
export class MotoBucket implements AsyncDisposable {
  readonly url: string;
  readonly name: string;
  readonly #server: MotoServer;

  private constructor(server: MotoServer, name: string) {
    this.#server = server;
    this.url = server.url;
    this.name = name;
  }

  static async start(name = 'bucket'): Promise<MotoBucket> {
    const bucket = new MotoBucket(await MotoServer.start(), name);
    await bucket.#ask('PUT', '');
    return bucket;
  }

  /** Names of all objects, in order. */
  async names(prefix = ''): Promise<string[]> {
    const response = await this.#ask('GET', `?list-type=2&prefix=${encodeURIComponent(prefix)}`);
    return Array.from((await response.text()).matchAll(/<Key>([^<]*)<\/Key>/g), ([, key = '']) => key);
  }

  /** The content of an object; `undefined` if there is none. */
  async get(name: string): Promise<Buffer | undefined> {
    const response = await this.#ask('GET', `/${name}`);
    return response.ok ? Buffer.from(await response.arrayBuffer()) : undefined;
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#ask('PUT', `/${name}`, bytes);
  }

  async delete(name: string): Promise<void> {
    await this.#ask('DELETE', `/${name}`);
  }

  /** Names of objects whose uploads have begun and not ended. */
  async uploads(): Promise<string[]> {
    const response = await this.#ask('GET', '?uploads');
    return Array.from((await response.text()).matchAll(/<Key>([^<]*)<\/Key>/g), ([, key = '']) => key);
  }

  /** Begins an upload that nobody ends. */
  async beginUpload(name: string): Promise<void> {
    await this.#ask('POST', `/${name}?uploads`);
  }

  async #ask(method: string, path: string, bytes?: Uint8Array): Promise<Response> {
    const body = bytes === undefined ? {} : { body: new Uint8Array(bytes) };
    // moto verifies no signature, but without one it takes the request for anonymous.
    const authorization = 'AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request';
    return fetch(`${this.url}/${this.name}${path}`, { method, headers: { authorization }, ...body });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}
