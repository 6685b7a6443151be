import type { MessagePort } from 'node:worker_threads';

import { SpandrelError } from '../core/errors.ts';

/** To the thread: a part of the layer, its end, or that no more will come. */
type ToThread = { readonly bytes: Uint8Array } | 'end' | 'broken';

/** Parts that are on their way to the thread at the same time. */
const MAX_SENT = 4;
const PART_BYTES = 512 * 1024;

/** In a thread: the bytes that {@link sendLayer} sends through the other end of `port`. */
export async function* receiveLayer(port: MessagePort): AsyncGenerator<Uint8Array, void, void> {
  const received: ToThread[] = [];
  let wake = (): void => undefined;
  port.on('message', (message: ToThread) => {
    received.push(message);
    wake();
  });
  for (;;) {
    const next = received.shift();
    if (next === 'end') return;
    if (next === 'broken') throw new SpandrelError('UPSTREAM_UNREACHABLE', 'the layer does not arrive');
    if (next === undefined) {
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    yield next.bytes;
    port.postMessage(next.bytes.byteLength, []);
  }
}

/**
 * Sends a layer to a thread, a few parts ahead of what it has read. Resolves when all is sent, or when the
 * thread has closed its end.
 * @param onProgress receives the number of bytes that the thread has read since the last call
 * @throws what `layer` throws; the thread then fails too
 */
export async function sendLayer(
  layer: AsyncIterable<Uint8Array>,
  port: MessagePort,
  onProgress: (bytes: number) => void,
): Promise<void> {
  let sent = 0;
  let isClosed = false;
  let wake = (): void => undefined;
  port.on('message', (bytes: number) => {
    sent--;
    onProgress(bytes);
    wake();
  });
  port.on('close', () => {
    isClosed = true;
    wake();
  });
  const post = (message: ToThread, transfer: ArrayBuffer[]): void => port.postMessage(message, transfer);
  try {
    for await (const bytes of inParts(layer)) {
      while (sent >= MAX_SENT && !isClosed) await new Promise<void>((resolve) => (wake = resolve));
      if (isClosed) return;
      sent++;
      post({ bytes }, [bytes.buffer]);
    }
    post('end', []);
  } catch (error) {
    post('broken', []);
    throw error;
  }
}

/** Copies, because a buffer can be transferred only as a whole and chunks share theirs. */
async function* inParts(
  layer: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let part = new Uint8Array(PART_BYTES);
  let filled = 0;
  for await (const chunk of layer) {
    for (let at = 0; at < chunk.length;) {
      const taken = chunk.subarray(at, at + PART_BYTES - filled);
      part.set(taken, filled);
      filled += taken.length;
      at += taken.length;
      if (filled < PART_BYTES) continue;
      yield part;
      part = new Uint8Array(PART_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield part.slice(0, filled);
}
