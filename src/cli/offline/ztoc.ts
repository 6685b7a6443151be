import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { digestOf } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { escapeControls } from '../../core/escape-controls.ts';
import { suggestNames } from '../../config/suggest-names.ts';
import { sociCompression } from '../../soci/skip-reason.ts';
import { decodeZtoc } from '../../ztoc/decode-ztoc.ts';
import { indexLayerFile, type LayerFileIndex } from '../../build/index-layer-file.ts';
import { describeMode } from '../../tar/describe-mode.ts';
import { describeRawText, printForTerminal } from '../../tar/raw-text.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { printJson } from '../terminal/print-json.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import { parseSizeFlag } from '../terminal/parse-size-flag.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { ENGINE_HELP, readOfflineSettings } from './offline-settings.ts';
import { ztocCat, ZTOC_CAT_FLAGS } from './ztoc-cat.ts';

const JSON_FLAG = { type: 'boolean', default: false, about: 'list: print a JSON object a line' } as const;

const CREATE_FLAGS = {
  'span-size': {
    type: 'string',
    default: '4MiB',
    value: 'SIZE',
    about: 'create: uncompressed bytes between two checkpoints',
  },
  'media-type': {
    type: 'string',
    value: 'TYPE',
    about: 'create: media type of the layer; fails if soci does not index it',
  },
  output: { type: 'string', short: 'o', value: 'FILE', about: 'create: write the zTOC; cat: write the file' },
  json: JSON_FLAG,
} satisfies Flags;

export const ZTOC_HELP: CommandHelp = {
  usage: [
    'ztoc create LAYER [--span-size SIZE] [--media-type TYPE] [-o ZTOC]',
    'ztoc info ZTOC',
    'ztoc list ZTOC [--json]',
    'ztoc cat ZTOC LAYER PATH [--encoded] [-o FILE]',
  ],
  about: [
    'Works on files, without a proxy. LAYER is the file of a layer as the registry has it: gzip or plain ' +
      'tar.',
    ['create  ', 'makes the zTOC that soci makes, and prints {"digest","size","spans","files","mountable"}'],
    ['info    ', "prints a zTOC's description of its layer as JSON"],
    ['list    ', 'lists the files of the layer: type, mode, owner, size, offset, time, name'],
    [
      'cat     ',
      'prints one file, also through links inside the layer; reads, verifies and decompresses only the ' +
        'spans that hold it',
    ],
    ENGINE_HELP,
  ],
  flags: { ...CREATE_FLAGS, ...ZTOC_CAT_FLAGS, output: CREATE_FLAGS.output },
  exits: [EXIT.notFound],
};

/** `spandrel ztoc`: makes and inspects zTOCs, offline. */
export async function ztoc(args: string[]): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb) {
    case 'create':
      return create(rest);
    case 'info':
      return info(rest);
    case 'list':
      return list(rest);
    case 'cat':
      return ztocCat(rest);
    default: {
      const meant = suggestNames(verb ?? '', ['create', 'info', 'list', 'cat']);
      throw new UsageError(`ztoc ${verb ?? ''}: expected create, info, list or cat${meant}`);
    }
  }
}

/** Prints `{"digest","size","spans","files","mountable"}` of the zTOC that `soci` makes of a layer. */
async function create(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: CREATE_FLAGS,
  });
  const path = onlyFile(positionals, 'a layer file');
  checkMediaType(values['media-type']);
  const spanBytes = parseSizeFlag('--span-size', values['span-size'], 1);
  const build = await indexFile(path, spanBytes);
  if (build.ztoc === undefined) {
    const { code, message } = build.reason ?? { code: 'INTERNAL', message: 'no zTOC' };
    throw new SpandrelError(code, message);
  }
  const { bytes, digest } = build.ztoc;
  if (values.output !== undefined) await writeFile(values.output, bytes);
  const reason = build.mountable ? {} : { reason: build.reason?.message };
  printJson({
    digest,
    size: bytes.byteLength,
    spans: build.spanCount,
    files: build.fileCount,
    mountable: build.mountable,
    ...reason,
  });
  return 0;
}

async function indexFile(path: string, spanBytes: number): Promise<LayerFileIndex> {
  const { size: layerBytes } = await stat(path);
  const scratch = await mkdtemp(join(tmpdir(), 'spandrel-ztoc-'));
  try {
    using bar = new ProgressBar('indexing', layerBytes);
    const settings = readOfflineSettings(process.env);
    const range = { start: 0, end: layerBytes };
    const input = { path, range, spanBytes, ...settings, scratchPath: join(scratch, 'index') };
    return await indexLayerFile(input, (doneBytes) => bar.update(doneBytes));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** `soci` selects layers by media type; the compression is detected from the bytes. */
function checkMediaType(mediaType: string | undefined): void {
  if (mediaType !== undefined && sociCompression(mediaType) === undefined)
    throw new SpandrelError('LAYER_UNSUPPORTED', `soci does not index ${mediaType}`);
}

/** Prints a zTOC's description of its layer. */
async function info(args: string[]): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: { json: JSON_FLAG } });
  const bytes = await readFile(onlyFile(positionals, 'a zTOC'));
  const { entries, spanDigests, checkpoints, compression, ...rest } = decodeZtoc(bytes);
  printJson({
    digest: digestOf(bytes),
    size: bytes.byteLength,
    ...rest,
    compression,
    files: entries.length,
    checkpointBytes: checkpoints.byteLength,
    spanDigests,
  });
  return 0;
}

/** Lists the files of a zTOC: mode, owner, size, offset, time, name. */
async function list(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: JSON_FLAG },
  });
  const { entries } = decodeZtoc(await readFile(onlyFile(positionals, 'a zTOC')));
  for (const {
    name,
    type,
    mode,
    uid,
    gid,
    uncompressedSize,
    uncompressedOffset,
    modTime,
    linkname,
  } of entries) {
    const described = {
      ...describeRawText('name', name),
      type,
      ...describeMode(mode),
      uid,
      gid,
      size: uncompressedSize,
      offset: uncompressedOffset,
      mtime: modTime,
    };
    if (values.json)
      printJson(linkname === '' ? described : { ...described, ...describeRawText('linkname', linkname) });
    else {
      const target = linkname === '' ? '' : ` -> ${printForTerminal(linkname)}`;
      const columns = [
        type.padEnd(8),
        mode.toString(8).padStart(5),
        `${uid}:${gid}`.padStart(11),
        String(uncompressedSize).padStart(12),
        String(uncompressedOffset).padStart(12),
        escapeControls(modTime),
      ];
      process.stdout.write(`${columns.join(' ')} ${printForTerminal(name)}${target}\n`);
    }
  }
  return 0;
}

function onlyFile(positionals: readonly string[], what: string): string {
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError(`expected ${what}, one`);
  return path;
}
