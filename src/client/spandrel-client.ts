import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';
import { REQUEST_HEADER } from '../http/access/page-guard.ts';
import { parseRawText, printForTerminal } from '../tar/raw-text.ts';
import { percentDecode, percentEncode } from '../tar/percent-encode.ts';
import { realPause } from '../upstream/transport/backoff-ms.ts';
import { askProxy, type Question, type Send } from './ask-proxy.ts';
import { type Content, contentOf, printRange, type WantedRange } from './content.ts';
import type { FileEntry, FolderPage } from './file-entry.ts';
import type { ImageStatus, LayerStatus } from './image-status.ts';
import type { Job } from './job.ts';
import { locateImage, USUAL_ADMIN, USUAL_PROXY } from './locate-image.ts';

export type { Content, WantedRange } from './content.ts';
export type { FileEntry, FolderPage } from './file-entry.ts';
export type { ImageStatus, LayerStatus, PlatformStatus } from './image-status.ts';
export {
  type Job,
  type JobImage,
  type JobLayer,
  jobProgress,
  type JobProgress,
  type Published,
} from './job.ts';
export { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';

export interface SpandrelClientOptions {
  /** Registry listener; `http://127.0.0.1:5000` by default. */
  readonly proxy?: string | URL;
  /** Admin listener; `http://127.0.0.1:5001` by default. */
  readonly admin?: string | URL;
  /** `admin.token`, for jobs. */
  readonly token?: string | undefined;
  /** `Authorization` value for the registry listener, where `access` wants one. */
  readonly authorization?: string | undefined;
  /** Instead of the global `fetch`. */
  readonly send?: Send;
}

/** A path in an image: text, or bytes in the form of a URL path, as `nameBytes` has them. */
export type FilePath = string | { readonly encoded: string };

export interface ReadOptions {
  /** `os/architecture[/variant]`; by default that of the image's name, else linux/amd64. */
  readonly platform?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface JobOptions {
  /** By default the configured ones. */
  readonly platforms?: readonly string[] | undefined;
  /** Called with each state of the job that is seen. */
  readonly onProgress?: (job: Job) => void;
  /** Ends the wait, not the job. */
  readonly signal?: AbortSignal | undefined;
}

export interface PublishOptions extends JobOptions {
  /** For the result; by default as the repository's rule says. */
  readonly tag?: string | undefined;
  /** Push SOCI v1 indexes instead of a converted image. */
  readonly v1?: boolean;
}

const POLL_MS = 200;

/**
 * A running Spandrel proxy. Images are named as on the command line: `upstream/repository[:tag][@digest]`,
 * with `@os/architecture` if another platform is meant. Every method rejects with a {@link SpandrelError},
 * whose `code` is one of the error table: that of the proxy's response, or UPSTREAM_UNREACHABLE if no proxy
 * responds.
 */
export class SpandrelClient {
  readonly #options: SpandrelClientOptions;
  readonly #proxy: string;
  /** Ends with a slash. */
  readonly #api: string;

  constructor(options: SpandrelClientOptions = {}) {
    this.#options = options;
    this.#proxy = String(options.proxy ?? USUAL_PROXY);
    this.#api = `${String(options.admin ?? USUAL_ADMIN).replace(/\/+$/, '')}/api/v1/`;
  }

  /** What is indexed of an image, by platform and layer. Starts no work. */
  async status(image: string, { signal }: Pick<ReadOptions, 'signal'> = {}): Promise<ImageStatus> {
    const { repositoryUrl, reference } = locateImage(this.#proxy, image);
    return (await this.#read(`${repositoryUrl}/_soci/images/${reference}`, { signal })).json() as never;
  }

  /** @param repository `upstream/repository` */
  async layerStatus(
    repository: string,
    digest: string,
    { signal }: Pick<ReadOptions, 'signal'> = {},
  ): Promise<LayerStatus> {
    return (await this.#read(this.#layerUrl(repository, digest), { signal })).json() as never;
  }

  /**
   * A page of a folder of the image's merged file system; `undefined` if the path is no folder.
   * @param options `after`: `next` of the page before
   */
  async readFolder(
    image: string,
    path: FilePath = '/',
    options: ReadOptions & { readonly after?: string | undefined } = {},
  ): Promise<FolderPage | undefined> {
    let response: Response;
    try {
      response = await this.#read(this.#fileUrl(image, path, options), options);
    } catch (error) {
      // A dangling link has an entry of its own.
      if (isSpandrelError(error, 'FILE_NOT_REGULAR', 'FILE_UNKNOWN')) return undefined;
      throw error;
    }
    if (isListing(response)) return (await response.json()) as FolderPage;
    await response.body?.cancel();
    return undefined;
  }

  /** All entries of a folder, page by page. @throws SpandrelError FILE_UNKNOWN if the path is no folder */
  async *list(
    image: string,
    path: FilePath = '/',
    options: ReadOptions = {},
  ): AsyncGenerator<FileEntry, void, void> {
    let after: string | undefined;
    do {
      const page = await this.readFolder(image, path, { ...options, after });
      if (page === undefined) throw new SpandrelError('FILE_UNKNOWN', `${printPath(path)} is not a folder`);
      yield* page.entries;
      after = page.next;
    } while (after !== undefined);
  }

  /**
   * A file of the image's merged file system, or a range of it. The proxy fetches only the spans that have
   * these bytes.
   * @throws SpandrelError FILE_NOT_REGULAR for a folder
   */
  async readFile(
    image: string,
    path: FilePath,
    { range, ...options }: ReadOptions & { readonly range?: WantedRange | undefined } = {},
  ): Promise<Content> {
    const response = await this.#read(this.#fileUrl(image, path, options), options, range);
    if (!isListing(response)) return contentOf(response);
    await response.body?.cancel();
    throw new SpandrelError('FILE_NOT_REGULAR', `${printPath(path)} is a folder`);
  }

  /**
   * A range of a decompressed layer.
   * @param repository `upstream/repository`
   */
  async readLayer(
    repository: string,
    digest: string,
    { range, signal }: { readonly range?: WantedRange } & Pick<ReadOptions, 'signal'> = {},
  ): Promise<Content> {
    return contentOf(await this.#read(`${this.#layerUrl(repository, digest)}/tar`, { signal }, range));
  }

  /** Has the proxy fetch and index an image, and waits for the end. @throws SpandrelError of the job */
  async warm(image: string, options: JobOptions = {}): Promise<Job> {
    const { platforms } = options;
    return this.#runJob('warm', { image, platforms }, options);
  }

  /** Has the proxy push an image with its SOCI indexes, and waits for the end. @throws as {@link warm} */
  async publish(image: string, options: PublishOptions = {}): Promise<Job> {
    const { platforms, tag, v1 } = options;
    return this.#runJob('publish', { image, platforms, tag, v1 }, options);
  }

  /** Jobs, the newest first. */
  async jobs({ signal }: Pick<ReadOptions, 'signal'> = {}): Promise<readonly Job[]> {
    const { jobs } = (await (await this.#admin('jobs', { signal })).json()) as { jobs: readonly Job[] };
    return jobs;
  }

  /** @throws SpandrelError JOB_UNKNOWN */
  async job(id: string, { signal }: Pick<ReadOptions, 'signal'> = {}): Promise<Job> {
    return (await this.#admin(`jobs/${encodeURIComponent(id)}`, { signal })).json() as never;
  }

  async #runJob(path: string, body: object, { onProgress, signal }: JobOptions): Promise<Job> {
    let job = (await (await this.#admin(path, { signal }, body)).json()) as Job;
    onProgress?.(job);
    while (job.state === 'running') {
      await realPause(POLL_MS, signal);
      job = await this.job(job.id, { signal });
      onProgress?.(job);
    }
    if (job.state === 'done') return job;
    const { code = 'INTERNAL', message = 'the job has failed' } = job.error ?? {};
    throw new SpandrelError(code as ErrorCode, message, { detail: { job } });
  }

  #fileUrl(
    image: string,
    path: FilePath,
    { platform, after }: ReadOptions & { readonly after?: string | undefined },
  ): string {
    const located = locateImage(this.#proxy, image);
    const wanted = located.platform ?? platform;
    const query = new URLSearchParams({
      ...(wanted === undefined ? {} : { platform: wanted }),
      ...(after === undefined ? {} : { after }),
    });
    const encoded = typeof path === 'string' ? percentEncode(parseRawText(path)) : path.encoded;
    const files = `${located.repositoryUrl}/_soci/images/${located.reference}/files`;
    return `${files}/${encoded.replace(/^\/+/, '')}${query.size === 0 ? '' : `?${query.toString()}`}`;
  }

  #layerUrl(repository: string, digest: string): string {
    return `${locateImage(this.#proxy, repository).repositoryUrl}/_soci/layers/${digest}`;
  }

  #read(url: string, { signal }: Pick<ReadOptions, 'signal'>, range?: WantedRange): Promise<Response> {
    const { authorization, send } = this.#options;
    const headers = {
      ...(authorization === undefined ? {} : { authorization }),
      ...(range === undefined ? {} : { range: printRange(range) }),
    };
    return askProxy(url, withSignal({ headers }, signal), send);
  }

  #admin(path: string, { signal }: Pick<ReadOptions, 'signal'>, body?: object): Promise<Response> {
    const { token, send } = this.#options;
    const headers = {
      [REQUEST_HEADER]: 'spandrel client',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    const question: Question =
      body === undefined
        ? { headers }
        : {
            method: 'POST',
            headers: { ...headers, 'content-type': 'application/json' },
            body: JSON.stringify(body),
          };
    return askProxy(`${this.#api}${path}`, withSignal(question, signal), send);
  }
}

function withSignal(question: Question, signal: AbortSignal | undefined): Question {
  return signal === undefined ? question : { ...question, signal };
}

/** Files are always sent as application/octet-stream. */
function isListing(response: Response): boolean {
  return response.headers.get('content-type') === 'application/json';
}

function printPath(path: FilePath): string {
  return printForTerminal(typeof path === 'string' ? parseRawText(path) : percentDecode(path.encoded));
}
