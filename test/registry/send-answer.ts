import type { ServerResponse } from 'node:http';

import { waitFor } from '../../src/core/wait-for.ts';
import type { FaultAction } from './faults.ts';
import type { RegistryAnswer } from '../../src/demo/registry-answer.ts';
import type { TokenBucket } from './token-bucket.ts';

const MAX_CHUNK_BYTES = 65_536;
const MIN_CHUNK_BYTES = 1024;
/** A limited flow is cut into so many pieces per second, as far as the sizes allow. */
const CHUNKS_PER_SECOND = 50;

export interface SendOptions {
  readonly method: string;
  readonly fault: FaultAction | undefined;
  /** All of them have to agree to each piece. */
  readonly throttles: readonly TokenBucket[];
  /** Told of every piece that the kernel has taken. */
  readonly onSent: (bytes: number) => void;
  /** The client has gone, or the registry is closing. */
  readonly signal: AbortSignal;
}

/**
 * Sends the answer with what goes wrong with it. Holds one piece at a time: the next is written when the
 * kernel has taken the last. Returns whether the client got a complete answer, be it a wrong one.
 * @throws the signal's reason
 */
export async function sendAnswer(
  response: ServerResponse,
  answer: RegistryAnswer,
  options: SendOptions,
): Promise<boolean> {
  const { fault, signal } = options;
  if (fault?.kind === 'reset' && fault.afterBytes === undefined) {
    response.socket?.resetAndDestroy();
    return false;
  }
  const body =
    fault?.kind === 'length'
      ? withLength(answer.body, Math.max(0, answer.body.length + fault.delta))
      : answer.body;
  response.writeHead(answer.status, { ...answer.headers, 'content-length': body.length });
  if (options.method === 'HEAD') {
    response.end();
    return true;
  }
  const breakAfter =
    fault?.kind === 'reset' || fault?.kind === 'stall' || fault?.kind === 'truncate'
      ? (fault.afterBytes ?? 0)
      : Infinity;
  const end = Math.min(body.length, breakAfter);
  const corruptAt = fault?.kind === 'corrupt' ? corruptByte(fault, answer) : -1;
  if (end === 0) response.flushHeaders();
  for (let at = 0; at < end;) {
    const chunk = body.subarray(at, Math.min(end, at + chunkBytes(options.throttles)));
    for (const throttle of options.throttles) await throttle.take(chunk.length, signal);
    await waitFor(write(response, corrupted(chunk, corruptAt - at)), signal);
    at += chunk.length;
    options.onSent(chunk.length);
  }
  if (breakAfter >= body.length) {
    response.end();
    return true;
  }
  if (fault?.kind === 'stall') await waitFor(Promise.withResolvers<never>().promise, signal);
  else if (fault?.kind === 'reset') response.socket?.resetAndDestroy();
  else response.socket?.destroySoon();
  return false;
}

function chunkBytes(throttles: readonly TokenBucket[]): number {
  const slowest = Math.min(...throttles.map(({ bytesPerSecond }) => bytesPerSecond));
  return Math.max(MIN_CHUNK_BYTES, Math.min(MAX_CHUNK_BYTES, Math.floor(slowest / CHUNKS_PER_SECOND)));
}

async function write(response: ServerResponse, chunk: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  response.write(chunk, (error) => (error ? reject(error) : resolve()));
  await promise;
}

/** Its index in the body; none of the body's if the fault is for another part of the content. */
function corruptByte(fault: FaultAction & { kind: 'corrupt' }, { body, bodyStart }: RegistryAnswer): number {
  return 'atByte' in fault ? fault.atByte - bodyStart : Math.floor(fault.atShare * body.length);
}

/** A copy with one bit flipped, if the byte is one of the chunk's. */
function corrupted(chunk: Uint8Array, index: number): Uint8Array {
  const byte = chunk[index];
  if (byte === undefined) return chunk;
  const copy = new Uint8Array(chunk);
  copy[index] = byte ^ 1;
  return copy;
}

/** Cut, or filled up with zeros. */
function withLength(body: Uint8Array, length: number): Uint8Array {
  if (length <= body.length) return body.subarray(0, length);
  const longer = new Uint8Array(length);
  longer.set(body);
  return longer;
}
