import { readFile, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { MessageChannel, type MessagePort } from 'node:worker_threads';

import { rangeLength } from '../../core/byte-range.ts';
import { containerPlatform } from '../../core/platform.ts';
import type { Digest } from '../../core/digest.ts';
import { escapeControls } from '../../core/escape-controls.ts';
import { WorkerPool } from '../../threads/worker-pool.ts';
import { convertLayout, type ConvertOutcome } from '../../convert/convert-layout.ts';
import type { ConvertOptions, InflatedLayer, LocatedImage } from '../../convert/index-source.ts';
import type { LayerOutcome, MadeBootLayer } from '../../convert/platform-outcome.ts';
import { readLayoutTag } from '../../convert/read-layout-tag.ts';
import { LayoutOutput } from '../../convert/layout-output.ts';
import { type OciLayout, openOciLayout } from '../../convert/oci-layout.ts';
import type { FilePart } from '../../build/file-part.ts';
import type { TarSpanBytes } from '../../build/tar/tar-span-bytes.ts';
import type { LayerFileIndex } from '../../build/index-layer-file.ts';
import type { LayerFileTask } from '../../build/layer-file-worker.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import { parsePlatformFlags } from '../terminal/parse-platform-flags.ts';
import { parseSizeFlag } from '../terminal/parse-size-flag.ts';
import { splitFlagList } from '../terminal/split-flag-list.ts';
import { UsageError } from '../terminal/usage-error.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { addBootLayer, openBootPool, readBootFiles } from './add-boot-layers.ts';
import { describeConversion, printConversion } from './print-conversion.ts';
import { ENGINE_HELP, readOfflineSettings } from './offline-settings.ts';
import type * as layerFileTasks from '../../build/layer-file-worker.ts';

const FORMATS = { 'oci-archive': 'archive', 'oci-dir': 'directory' } as const;
/** More than the layers of any image. */
const MAX_QUEUED_LAYERS = 100_000;

const FLAGS = {
  'span-size': {
    type: 'string',
    value: 'SIZE',
    about:
      'uncompressed bytes between two checkpoints (default: 4MiB; inflated form: by the size of the tar)',
  },
  form: {
    type: 'string',
    value: 'FORM',
    about:
      'full (default): what `soci` makes; inflated: also replace layers of gzip and zstd by their tars; ' +
      'lean: keep the layers, as full does, but with --boot-files',
  },
  'boot-files': {
    type: 'string',
    value: 'FILE',
    about: 'add a boot layer of these files: a path a line, or a profile in JSON (form: inflated or lean)',
  },
  'min-layer-size': { type: 'string', default: '10MiB', value: 'SIZE', about: 'leave out smaller layers' },
  platform: {
    type: 'string',
    short: 'p',
    multiple: true,
    default: [],
    value: 'P',
    about: "platform to index (default: the machine's own)",
  },
  'all-platforms': { type: 'boolean', default: false, about: 'index all platforms of the image' },
  optimizations: {
    type: 'string',
    multiple: true,
    default: [],
    value: 'NAME',
    about: 'xattr: mark layers without extended attributes',
  },
  'prefetch-file': {
    type: 'string',
    multiple: true,
    default: [],
    value: 'PATH',
    about: 'file of the image that nodes fetch ahead',
  },
  'prefetch-files-json': { type: 'string', value: 'FILE', about: 'JSON list of such paths' },
  format: { type: 'string', default: 'oci-archive', value: 'FORMAT', about: 'oci-archive or oci-dir' },
  // Flags of `soci`: conversion is always standalone, and earlier zTOCs are never used.
  standalone: { type: 'boolean', about: 'accepted for scripts written for soci; always the case' },
  force: { type: 'boolean', short: 'f', about: 'accepted for scripts written for soci; always the case' },
  strict: {
    type: 'boolean',
    default: false,
    about: 'exit status 5 if a layer is left out for another reason than its size',
  },
  json: { type: 'boolean', default: false, about: 'print one JSON object instead of text' },
} satisfies Flags;

export const CONVERT_HELP: CommandHelp = {
  usage: ['convert LAYOUT OUT [flags]'],
  about: [
    'Adds SOCI v2 indexes to an image, without a registry, byte for byte as `soci convert --standalone` ' +
      'does.',
    'With --form inflated, tars take the places of large gzip and zstd layers, as with `index.v2Form: ' +
      'inflated`.',
    'With --boot-files, a small layer on top has copies of these files, so that a container finds them on ' +
      "the node's disk when it starts; the file system of the image stays the same.",
    'LAYOUT is an OCI image layout: a directory or a tar archive. A layer that SOCI cannot index is left ' +
      'out and named; the others are indexed.',
    ENGINE_HELP,
  ],
  flags: FLAGS,
  exits: [EXIT.notFound, EXIT.notLazy],
};

/** `spandrel convert`: like `soci convert --standalone`, with the same flags. */
export async function convert(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: FLAGS,
  });
  const [input, out, ...more] = positionals;
  if (input === undefined || out === undefined || more.length > 0)
    throw new UsageError('expected an OCI image layout and where to put the result');
  const format = parseFormat(values.format);
  const host = containerPlatform(process.arch);
  const bootFiles = values['boot-files'];
  const form = parseForm(values.form ?? (bootFiles === undefined ? 'full' : 'inflated'));
  if (form === 'full' && bootFiles !== undefined)
    throw new UsageError('--boot-files: with --form full the result would not be what `soci` makes');
  const wanted = bootFiles === undefined ? undefined : await readBootFiles(bootFiles);
  const spanSize = values['span-size'];
  const spanBytes = parseSizeFlag('--span-size', spanSize ?? '4MiB', 1);
  const options: ConvertOptions = {
    form: form === 'lean' ? 'full' : form,
    platforms: values['all-platforms'] ? 'all' : parsePlatformFlags(values.platform, host),
    host,
    spanBytes,
    minLayerBytes: parseSizeFlag('--min-layer-size', values['min-layer-size'], 0),
    optimizeXattrs: parseOptimizations(splitFlagList(values.optimizations)),
    prefetchPaths: [
      ...splitFlagList(values['prefetch-file']),
      ...(await readPaths(values['prefetch-files-json'])),
    ],
  };
  const tarSpanBytes = spanSize === undefined ? 'auto' : spanBytes;
  const { outcome, tag } = await convertFile(input, out, format, { ...options, tarSpanBytes, wanted });
  const push = pushCommand(out, format, tag);
  if (values.json) printConversion(outcome, push);
  else process.stdout.write(`${describeConversion(outcome, push).map(escapeControls).join('\n')}\n`);
  const leftOut = outcome.platforms.flatMap(({ layers }) => layers.filter(isFault));
  if (!values.strict || leftOut.length === 0) return EXIT.ok;
  const digests = [...new Set(leftOut.map(({ digest }) => digest))].join(', ');
  process.stderr.write(`spandrel: --strict: layers are left out: ${digests}\n`);
  return EXIT.notLazy;
}

/** True for a layer that is left out for another reason than its size. */
function isFault({ ztoc, skipped }: LayerOutcome): boolean {
  return ztoc === undefined && skipped !== 'too_small';
}

/** How to push the result under the tag of the input. `index.json` has no tag, as in the output of `soci`. */
function pushCommand(out: string, format: 'archive' | 'directory', tag: string | undefined): string {
  const transport = format === 'archive' ? 'oci-archive' : 'oci';
  return (
    `skopeo copy --all --preserve-digests ${transport}:${out} ` +
    `docker://REGISTRY/REPOSITORY:${tag ?? 'TAG'}`
  );
}

interface ConversionOptions extends ConvertOptions {
  readonly tarSpanBytes: TarSpanBytes;
  /** Files of boot layers; without them, no image gets one. */
  readonly wanted: readonly RawText[] | undefined;
}

async function convertFile(
  input: string,
  out: string,
  format: 'archive' | 'directory',
  options: ConversionOptions,
): Promise<{ outcome: ConvertOutcome; tag: string | undefined }> {
  const layout = await openOciLayout(input);
  const tag = await readLayoutTag(layout);
  await using output = await LayoutOutput.create(out, format, layout);
  const outcome = await indexLayers(layout, output, options);
  const copiedBytes = [...layout.values()].reduce((sum, { range }) => sum + rangeLength(range), 0);
  using bar = new ProgressBar('writing', copiedBytes);
  const onProgress = (doneBytes: number): void => bar.update(doneBytes);
  if (format === 'directory') await output.finishDirectory(outcome.top, onProgress);
  else await output.finishArchive(outcome.top, onProgress);
  return { outcome, tag };
}

async function indexLayers(
  layout: OciLayout,
  output: LayoutOutput,
  { tarSpanBytes, wanted, ...options }: ConversionOptions,
): Promise<ConvertOutcome> {
  const entry = new URL(`../../build/layer-file-worker${extname(import.meta.url)}`, import.meta.url);
  const threads = availableParallelism();
  await using pool = new WorkerPool<typeof layerFileTasks>({
    name: 'index',
    entry,
    threads,
    maxQueue: MAX_QUEUED_LAYERS,
  });
  await using bootPool = openBootPool(threads);
  using bar = new ProgressBar('indexing');
  const settings = readOfflineSettings(process.env);
  let layers = 0;

  /** Not named by digest: a layer listed under two media types is indexed twice at the same time. */
  const newPath = (): string => join(output.scratch, `layer-${++layers}`);
  const follow = async <T>(part: FilePart, work: (port: MessagePort) => Promise<T>): Promise<T> => {
    const { port1, port2 } = new MessageChannel();
    bar.addTotal(rangeLength(part.range));
    let doneBefore = 0;
    port1.on('message', (done: number) => {
      bar.add(done - doneBefore);
      doneBefore = done;
    });
    try {
      return await work(port2);
    } finally {
      port1.close();
    }
  };
  const indexLayer = (part: FilePart, digest: Digest): Promise<LayerFileIndex> =>
    follow(part, (port) => {
      const { spanBytes } = options;
      const task: LayerFileTask = { ...part, ...settings, digest, spanBytes, scratchPath: newPath(), port };
      return pool.tasks.indexLayer(task, { transfer: [port] });
    });
  const inflateLayer = (part: FilePart, digest: Digest): Promise<InflatedLayer> =>
    follow(part, async (port) => {
      const tarPath = newPath();
      const task = { ...part, ...settings, digest, spanBytes: tarSpanBytes, tarPath, port };
      const drop = (): Promise<void> => rm(tarPath, { force: true });
      try {
        const inflated = await pool.tasks.inflateLayer(task, { transfer: [port] });
        const take = (): Promise<void> => output.takeBlob(inflated.diffId, tarPath, inflated.tarBytes);
        return { ...inflated, take, drop };
      } catch (error) {
        await drop();
        throw error;
      }
    });
  const boot =
    wanted === undefined
      ? {}
      : {
          makeBootLayer: (image: LocatedImage<FilePart>): Promise<MadeBootLayer> =>
            addBootLayer(image, { ...settings, wanted, output, newPath, pool: bootPool }),
        };
  return await convertLayout(layout, options, {
    indexLayer,
    inflateLayer,
    ...boot,
    putBlob: (digest, bytes) => output.putBlob(digest, bytes),
  });
}

function parseFormat(text: string): 'archive' | 'directory' {
  const format = Object.entries(FORMATS).find(([name]) => name === text)?.[1];
  if (format === undefined)
    throw new UsageError(`--format: ${text} is none of ${Object.keys(FORMATS).join(', ')}`);
  return format;
}

function parseForm(text: string): 'full' | 'inflated' | 'lean' {
  if (text === 'full' || text === 'inflated' || text === 'lean') return text;
  throw new UsageError(`--form: ${text} is none of full, inflated, lean`);
}

function parseOptimizations(names: readonly string[]): boolean {
  const unknown = names.find((name) => name !== 'xattr');
  if (unknown !== undefined) throw new UsageError(`--optimizations: ${unknown} is not known, only xattr`);
  return names.length > 0;
}

async function readPaths(file: string | undefined): Promise<string[]> {
  if (file === undefined) return [];
  const usage = `--prefetch-files-json: ${file} is not a JSON list of paths`;
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(usage);
    throw error;
  }
  const isList = Array.isArray(json) && json.every((path) => typeof path === 'string' || path === null);
  if (!isList && json !== null) throw new UsageError(usage);
  // Go decodes `null` as an empty list or path.
  const paths = (json ?? []) as readonly (string | null)[];
  return paths.map((path) => path?.trim() ?? '').filter((path) => path !== '');
}
