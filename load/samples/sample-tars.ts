import { createHash } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { glob, lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

import { startProgram } from '../../test/helpers/programs.ts';

/** A gzip file and its decompressed content. */
export interface SampleTar {
  readonly name: string;
  readonly path: string;
  readonly sha256: string;
  readonly uncompressedBytes: number;
}

/** Enough for a pass of a good part of a second. */
const MAX_BYTES = 64e6;

/** Folders by kind of content, as layers have it; the first that exists is used. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  python: ['/usr/lib/python3', '/usr/lib/python3.13', '/usr/lib/python3.12', '/usr/lib/python3.11'],
  binaries: ['/usr/bin'],
  libraries: ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib'],
  javascript: [new URL('../../node_modules', import.meta.url).pathname],
};

/**
 * Makes `<kind>.tar.gz` files in `folder` with the default level of `gzip`: the head of a tar of each kind,
 * and logs.
 */
export async function makeSampleTars(folder: string): Promise<SampleTar[]> {
  const samples: SampleTar[] = [];
  for (const [name, folders] of Object.entries(KINDS)) {
    const source = folders.find((candidate) => existsSync(candidate));
    if (source === undefined) continue;
    const tar = startProgram('tar', ['--create', '--directory', source, '.'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    samples.push(await compress(name, head(tar.stdout), folder));
    tar.kill();
  }
  samples.push(await compress('logs', head(logLines()), folder));
  return samples;
}

/** A tar of about `bytes` with the first files of /usr, without single files that would dominate it. */
export async function makeLargeTar(folder: string, bytes: number): Promise<SampleTar> {
  const paths: string[] = [];
  let listedBytes = 0;
  for await (const entry of glob('**', { cwd: '/usr', withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const sizeBytes = entry.isFile() ? (await lstat(path)).size : 0;
    if (sizeBytes > bytes / 5) continue;
    paths.push(path);
    listedBytes += sizeBytes;
    if (listedBytes >= bytes) break;
  }
  const tar = startProgram('tar', ['--create', '--no-recursion', '--null', '--files-from=-'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  tar.stdin.end(paths.join('\0'));
  return await compress('usr', tar.stdout, folder);
}

async function compress(name: string, bytes: AsyncIterable<Uint8Array>, folder: string): Promise<SampleTar> {
  const path = join(folder, `${name}.tar.gz`);
  const hash = createHash('sha256');
  let uncompressedBytes = 0;
  async function* hashed(): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      hash.update(chunk);
      uncompressedBytes += chunk.length;
      yield chunk;
    }
  }
  await pipeline(Readable.from(hashed()), createGzip(), createWriteStream(path));
  return { name, path, sha256: hash.digest('hex'), uncompressedBytes };
}

async function* head(chunks: AsyncIterable<unknown> | Iterable<unknown>): AsyncGenerator<Uint8Array> {
  let rest = MAX_BYTES;
  for await (const chunk of chunks) {
    const bytes = chunk as Uint8Array;
    yield bytes.subarray(0, rest);
    rest -= bytes.length;
    if (rest <= 0) return;
  }
}

/** Lines that compress to about a tenth. */
function* logLines(): Generator<Uint8Array> {
  let state = 1;
  const next = (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  for (;;) {
    const lines = Array.from({ length: 1000 }, () => {
      const twoDigits = (): string => String(next(60)).padStart(2, '0');
      const time = `10:${twoDigits()}:${twoDigits()}.${next(1000)}`;
      const path = `/v2/library/app/blobs/sha256:${next(2 ** 32).toString(16)}`;
      return `2026-11-21T${time}Z INFO proxy request method=GET path=${path} status=200 bytes=${next(1e6)}\n`;
    });
    yield Buffer.from(lines.join(''));
  }
}
