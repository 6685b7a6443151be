import { type ErrorCode, ERRORS } from '../../src/core/errors.ts';
import type { Disturbances } from './disturbances.ts';
import { type Answer, NoAnswer, type Patrons } from './patrons.ts';
import { type KnownLayer, sha256 } from './content.ts';

/** A violation that no fault explains. */
export class Wrong extends Error {}

/** A failed response, or none. */
export class Refused extends Error {
  /** True if the faults so far explain it. */
  readonly isExcused: boolean;

  constructor(message: string, isExcused: boolean) {
    super(message);
    this.isExcused = isExcused;
  }
}

export interface Question {
  readonly method?: 'GET' | 'HEAD';
  readonly url: string;
  readonly headers?: Record<string, string>;
  /** Of the client. */
  readonly address?: string;
  readonly leaveAfterBytes?: number | undefined;
}

/** The expected response. */
export interface Expected {
  /** The whole content, if known. */
  readonly bytes?: Uint8Array;
  readonly digest?: string;
  /** Half-open range of the response. */
  readonly range?: { readonly start: number; readonly end: number } | undefined;
  /** Layers that the bytes come from; they may be sent before the whole layers are verified. */
  readonly partOf?: readonly KnownLayer[];
}

/** Sends requests, and compares each response with the expected one. */
export class Judge {
  readonly #disturbances: Disturbances;
  asked = 0;
  bytes = 0;
  refused = 0;

  constructor(disturbances: Disturbances) {
    this.#disturbances = disturbances;
  }

  /** @throws Wrong, Refused */
  async ask(patrons: Patrons, question: Question, expected: Expected): Promise<Answer> {
    const { method = 'GET', url, headers = {}, address, leaveAfterBytes } = question;
    const what = `${method} ${new URL(url).pathname}${headers['range'] === undefined ? '' : ` ${headers['range']}`}`;
    this.asked++;
    let answer: Answer;
    try {
      answer = await patrons.ask(url, { method, headers, address, leaveAfterBytes });
    } catch (error) {
      if (error instanceof NoAnswer) throw this.#refusal(error.message, this.#disturbances.excusesNoAnswer);
      throw new Wrong(error instanceof Error ? error.message : String(error));
    }
    this.bytes += answer.body.length;
    if (answer.status >= 400) throw this.#refusalOf(answer, what, new URL(url).pathname, method);
    this.#compare(answer, what, method, expected);
    if (answer.end === 'cut')
      throw this.#refusal(`${what}: cut after ${answer.body.length} bytes`, this.#disturbances.excusesCuts);
    return answer;
  }

  #refusal(message: string, isExcused: boolean): Refused {
    this.refused++;
    return new Refused(message, isExcused);
  }

  /** An error must be in the error table, with its status. */
  #refusalOf(answer: Answer, what: string, path: string, method: string): Error {
    const { status, body } = answer;
    if (method === 'HEAD' || answer.end === 'left') {
      const codes = Object.entries(ERRORS).flatMap(([code, row]) => (row.status === status ? [code] : []));
      const isExcused = codes.some((code) => this.#disturbances.excusesCode(code as ErrorCode, path));
      return this.#refusal(`${what}: ${status}`, isExcused);
    }
    if (answer.end === 'cut') return this.#refusal(`${what}: ${status}, cut`, this.#disturbances.excusesCuts);
    const { code, message } = errorOf(body);
    const row = ERRORS[code as ErrorCode] as { status: number } | undefined;
    if (row === undefined) return new Wrong(`${what}: ${status} with a body of no error: ${body.toString()}`);
    if (row.status !== status) return new Wrong(`${what}: ${status} for ${code}, which has ${row.status}`);
    if (code === 'INTERNAL') return new Wrong(`${what}: INTERNAL, ${message}`);
    const isExcused = this.#disturbances.excusesCode(code as ErrorCode, path);
    return this.#refusal(`${what}: ${status} ${code}, ${message}`, isExcused);
  }

  #compare(answer: Answer, what: string, method: string, expected: Expected): void {
    const { status, headers, body, end } = answer;
    const { bytes, digest, range, partOf } = expected;
    const own = digest === undefined ? [] : [digest];
    if (status !== 200 && status !== 206) throw new Wrong(`${what}: status ${status}`);
    if (digest !== undefined && headers['docker-content-digest'] !== digest)
      throw new Wrong(
        `${what}: Docker-Content-Digest ${String(headers['docker-content-digest'])}, not ${digest}`,
      );
    if (bytes === undefined) {
      const isWhole = method === 'GET' && digest !== undefined && end === 'whole';
      if (isWhole && sha256(body) !== digest && !this.#disturbances.excusesRot(own))
        throw new Wrong(`${what}: bytes of ${sha256(body)}`);
      return;
    }
    const isPart = range !== undefined && status === 206;
    const wrong = difference(answer, method, bytes, isPart ? range : undefined);
    if (wrong === undefined) return;
    // A range of a blob may be sent before verification, with the size that the upstream claims.
    const isPartial = partOf !== undefined || isPart || end !== 'whole' || method === 'HEAD';
    const blobs = partOf?.map((layer) => layer.digest) ?? own;
    if (isPartial && this.#disturbances.excusesUnverified(blobs)) return;
    // Bytes of an uncompressed layer are sent as they are stored.
    const stored = partOf?.filter(({ packed, tar }) => packed === tar).map((layer) => layer.digest) ?? own;
    if (this.#disturbances.excusesRot(stored) || this.#disturbances.excusesRotWithoutIndex(blobs)) return;
    throw new Wrong(`${what}: ${wrong} (${end}, ${String(headers['cache-status'])})`);
  }
}

/** What is wrong with a response, complete or cut. */
function difference(
  { headers, body, end }: Answer,
  method: string,
  bytes: Uint8Array,
  range: Expected['range'],
): string | undefined {
  const wanted = range === undefined ? bytes : bytes.subarray(range.start, range.end);
  if (range !== undefined) {
    const part = `bytes ${range.start}-${Math.min(range.end, bytes.length) - 1}/`;
    const given = headers['content-range'];
    // The size of a layer is unknown during its first read.
    if (given !== `${part}${bytes.length}` && given !== `${part}*`) return `Content-Range ${given}`;
  }
  const length = headers['content-length'];
  if (length !== undefined && Number(length) !== wanted.length)
    return `Content-Length ${length}, not ${wanted.length}`;
  if (method === 'HEAD') return undefined;
  const compared = end === 'whole' ? wanted : wanted.subarray(0, body.length);
  if (Buffer.compare(body, compared) === 0) return undefined;
  return `${body.length} bytes, of which byte ${firstDifference(body, compared)} is wrong`;
}

function errorOf(body: Buffer): { code: string; message: string } {
  try {
    const { errors } = JSON.parse(body.toString()) as { errors: { code: string; message: string }[] };
    return { code: errors[0]?.code ?? '', message: errors[0]?.message ?? '' };
  } catch {
    return { code: '', message: '' };
  }
}

function firstDifference(left: Uint8Array, right: Uint8Array): number {
  for (let place = 0; place < Math.max(left.length, right.length); place++)
    if (left[place] !== right[place]) return place;
  return -1;
}
