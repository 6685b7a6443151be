import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';

import { type ByteRange, intersectRanges, rangeLength } from '../../core/byte-range.ts';
import { finishDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { engineNamed } from '../../inflate/choose-engine.ts';
import type { Engine } from '../../inflate/engine.ts';
import { decodeZtoc } from '../../ztoc/decode-ztoc.ts';
import { cleanPath, printForTerminal, type RawText } from '../../tar/raw-text.ts';
import type { Ztoc } from '../../ztoc/ztoc.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import { type ZtocSpan, ztocSpans } from '../../ztoc/ztoc-spans.ts';
import type { Flags } from '../terminal/command-help.ts';
import { readPathArgument } from '../terminal/read-path-argument.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { readOfflineSettings } from './offline-settings.ts';

/** More links than this count as a loop. */
const MAX_LINKS = 40;

export const ZTOC_CAT_FLAGS = {
  output: { type: 'string', short: 'o', value: 'FILE', about: 'write the file instead of printing it' },
  encoded: { type: 'boolean', default: false, about: 'cat: PATH is percent-encoded' },
} satisfies Flags;

/** Writes a file of a layer. Reads only the spans that contain it, and verifies each. */
export async function ztocCat(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: ZTOC_CAT_FLAGS,
  });
  const [ztocPath, layerPath, path, ...more] = positionals;
  if (ztocPath === undefined || layerPath === undefined || path === undefined || more.length > 0)
    throw new UsageError('expected a zTOC, the layer file it was made of, and the path of a file in it');
  const ztoc = decodeZtoc(await readFile(ztocPath));
  const entry = findFile(ztoc.entries, await readPathArgument(path, values.encoded));
  const start = entry.uncompressedOffset;
  await using layer = await open(layerPath, 'r');
  const engine = engineNamed(readOfflineSettings(process.env).engine);
  const bytes = readRange({ layer, ztoc, engine }, { start, end: start + entry.uncompressedSize });
  if (values.output === undefined) {
    await pipeline(bytes, process.stdout, { end: false });
    return 0;
  }
  await using file = await open(values.output, 'w');
  for await (const chunk of bytes) await file.writeFile(chunk);
  return 0;
}

/**
 * Finds a file by its path, through the links of the layer. The last entry of a name wins, as when a tar is
 * unpacked.
 * @throws SpandrelError FILE_UNKNOWN, also if a link leads out of the layer; FILE_NOT_REGULAR
 */
function findFile(entries: readonly TocEntry[], path: RawText): TocEntry {
  const byPath = new Map(entries.map((entry) => [cleanPath(entry.name), entry]));
  const asked = cleanPath(path);
  let wanted = asked;
  for (let links = 0; links < MAX_LINKS; links++) {
    const entry = byPath.get(wanted);
    if (entry?.type === 'reg') return entry;
    if (entry?.type === 'hardlink') wanted = cleanPath(entry.linkname);
    else {
      const next = followLink(byPath, wanted);
      if (next === undefined) throw notAFile(entry, asked, wanted);
      wanted = next;
    }
  }
  throw new SpandrelError('FILE_NOT_REGULAR', `${printForTerminal(asked)} is in a loop of links`);
}

/** The path with its first symbolic link replaced by the target; `undefined` if it has none. */
function followLink(entries: ReadonlyMap<RawText, TocEntry>, path: RawText): RawText | undefined {
  const parts = path.split('/');
  for (let length = 1; length <= parts.length; length++) {
    const entry = entries.get(parts.slice(0, length).join('/') as RawText);
    if (entry?.type !== 'symlink') continue;
    const folder = parts.slice(0, length - 1).join('/');
    const rest = parts.slice(length).join('/');
    // An absolute target starts at the root of the layer, and `..` does not lead above it.
    return posix.resolve('/', folder, entry.linkname, rest).slice(1) as RawText;
  }
  return undefined;
}

function notAFile(entry: TocEntry | undefined, asked: RawText, wanted: RawText): SpandrelError {
  const [name, target] = [printForTerminal(asked), printForTerminal(wanted)];
  if (entry !== undefined) {
    const subject = asked === wanted ? name : `${name} leads to ${target}, which`;
    return new SpandrelError('FILE_NOT_REGULAR', `${subject} has the type ${entry.type}`);
  }
  return new SpandrelError(
    'FILE_UNKNOWN',
    asked === wanted
      ? `the layer has no ${name}; see: ztoc list`
      : `${name} leads to ${target}, which is not in this layer: look for it in another one`,
  );
}

/** A layer and how it is read. */
interface IndexedLayer {
  readonly layer: FileHandle;
  readonly ztoc: Ztoc;
  /** For gzip. */
  readonly engine: Engine;
}

async function* readRange(from: IndexedLayer, range: ByteRange): AsyncGenerator<Uint8Array> {
  for (const span of rangeLength(range) === 0 ? [] : ztocSpans(from.ztoc, range)) {
    const part = intersectRanges(span.uncompressed, range);
    const bytes = await readSpan(from, span);
    yield bytes.subarray(part.start - span.uncompressed.start, part.end - span.uncompressed.start);
  }
}

async function readSpan({ layer, ztoc, engine }: IndexedLayer, span: ZtocSpan): Promise<Uint8Array> {
  const length = rangeLength(span.compressed);
  const { buffer: compressed, bytesRead } = await layer.read(
    Buffer.alloc(length),
    0,
    length,
    span.compressed.start,
  );
  const digest = finishDigest(createHash('sha256').update(compressed.subarray(0, bytesRead)));
  if (digest !== span.digest)
    throw new SpandrelError('SPAN_CORRUPT', `span ${span.id} of the layer does not match the zTOC`);
  if (ztoc.compression === 'none') return compressed;
  const { bits, window } = span;
  return engine.inflateSpan({
    compressed,
    bits,
    window,
    uncompressedLength: rangeLength(span.uncompressed),
  });
}
