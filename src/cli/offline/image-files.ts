import { once } from 'node:events';
import { posix } from 'node:path';
import { parseArgs } from 'node:util';

import { type FileEntry, type FolderPage, SpandrelClient } from '../../client/spandrel-client.ts';
import { SpandrelError } from '../../core/errors.ts';
import { describeMode, printPermissions } from '../../tar/describe-mode.ts';
import { percentEncode } from '../../tar/percent-encode.ts';
import { describeRawText, parseDescribed, printForTerminal, type RawText } from '../../tar/raw-text.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { readPathArgument } from '../terminal/read-path-argument.ts';
import { parseUrlFlag } from '../terminal/parse-url-flag.ts';
import { printJson } from '../terminal/print-json.ts';
import { USUAL_PROXY } from '../../client/locate-image.ts';
import { UsageError } from '../terminal/usage-error.ts';

interface FileRequest {
  readonly client: SpandrelClient;
  readonly image: string;
  readonly platform: string | undefined;
  /** Absolute, without `.` and `..`. */
  readonly path: RawText;
  readonly json: boolean;
  readonly range: string | undefined;
}

const TYPE_LETTERS: Readonly<Record<string, string>> = {
  dir: 'd',
  symlink: 'l',
  char: 'c',
  block: 'b',
  fifo: 'p',
};

const FLAGS = {
  proxy: { type: 'string', default: USUAL_PROXY, value: 'URL', about: 'registry listener of the proxy' },
  platform: {
    type: 'string',
    short: 'p',
    value: 'P',
    about: 'platform (default: linux/amd64); the same as @P after the image',
  },
  range: {
    type: 'string',
    value: 'A-B',
    about: 'bytes of the file as in a Range header, both ends included',
  },
  encoded: { type: 'boolean', default: false, about: 'PATH is percent-encoded, as `nameBytes` in JSON' },
  json: { type: 'boolean', default: false, about: 'print JSON instead of text' },
} satisfies Flags;

const { range: _range, ...LIST_FLAGS } = FLAGS;
const { json: _json, ...PRINT_FLAGS } = FLAGS;
const IMAGE_NOTE = 'IMAGE is upstream/repository:tag. Only the spans that are needed are fetched.';

export const LS_HELP: CommandHelp = {
  usage: ['ls IMAGE[@PLATFORM] [PATH] [--proxy URL] [--encoded] [--json]'],
  about: ["Lists a folder of an image's merged file system through a running proxy.", IMAGE_NOTE],
  flags: LIST_FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable],
};

export const CAT_HELP: CommandHelp = {
  usage: ['cat IMAGE[@PLATFORM] PATH [--range A-B] [--proxy URL] [--encoded]'],
  about: ['Prints a file of an image, or a range of it, through a running proxy.', IMAGE_NOTE],
  flags: PRINT_FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable],
};

export const STAT_HELP: CommandHelp = {
  usage: ['stat IMAGE[@PLATFORM] PATH [--proxy URL] [--encoded] [--json]'],
  about: ['Prints type, mode, size and layer of a path in an image, through a running proxy.', IMAGE_NOTE],
  flags: LIST_FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable],
};

/** `spandrel ls`: lists a folder of an image's merged file system through a running proxy. */
export async function ls(args: string[]): Promise<number> {
  const request = await parseFileRequest(args);
  const first = await readPage(request);
  if (first === undefined) return stat(args);
  if (request.json) {
    const entries: FileEntry[] = [];
    for await (const page of pagesFrom(request, first)) entries.push(...page.entries);
    const { next: _, ...rest } = first;
    printJson({ ...rest, entries });
    return 0;
  }
  for await (const { entries } of pagesFrom(request, first))
    process.stdout.write(entries.map((entry) => `${printEntry(entry)}\n`).join(''));
  return 0;
}

function readPage(
  { client, image, path, platform }: FileRequest,
  after?: string,
): Promise<FolderPage | undefined> {
  return client.readFolder(image, { encoded: percentEncode(path) }, { platform, after });
}

/** All pages of a listing. */
async function* pagesFrom(request: FileRequest, first: FolderPage): AsyncGenerator<FolderPage, void, void> {
  for (let page: FolderPage | undefined = first; page !== undefined;) {
    yield page;
    page = page.next === undefined ? undefined : await readPage(request, page.next);
  }
}

/** `spandrel cat`: prints a file. Only the spans that contain it are fetched. */
export async function cat(args: string[]): Promise<number> {
  const { client, image, path, platform, range } = await parseFileRequest(args);
  const { body } = await client.readFile(image, { encoded: percentEncode(path) }, { platform, range });
  for await (const chunk of body) if (!process.stdout.write(chunk)) await once(process.stdout, 'drain');
  return 0;
}

/** `spandrel stat`: prints type, mode, size and layer of a path. */
export async function stat(args: string[]): Promise<number> {
  const request = await parseFileRequest(args);
  const { path, json } = request;
  const entry =
    path === '/'
      ? { name: '/', type: 'dir', size: 0, ...describeMode(0o755), layer: null }
      : await findEntry(request);
  if (entry === undefined)
    throw new SpandrelError('FILE_UNKNOWN', `the image has no ${printForTerminal(path)}`);
  if (json) printJson({ ...describeRawText('path', path), ...entry });
  else process.stdout.write(`${printEntry(entry)}  ${entry.layer ?? '-'}\n`);
  return 0;
}

async function findEntry({ path, ...request }: FileRequest): Promise<FileEntry | undefined> {
  const parent = { ...request, path: posix.dirname(path) as RawText };
  const first = await readPage(parent);
  if (first === undefined) return undefined;
  const wanted = posix.basename(path);
  for await (const { entries } of pagesFrom(parent, first)) {
    const found = entries.find(({ name, nameBytes }) => parseDescribed(name, nameBytes) === wanted);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function parseFileRequest(args: string[]): Promise<FileRequest> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: FLAGS,
  });
  const [image, path = '/', ...more] = positionals;
  if (image === undefined || more.length > 0)
    throw new UsageError('expected an image like upstream/repository:tag, and a path');
  const proxy = parseUrlFlag('--proxy', values.proxy);
  return {
    client: new SpandrelClient({ proxy }),
    image,
    platform: values.platform,
    path: posix.resolve('/', await readPathArgument(path, values.encoded)) as RawText,
    json: values.json,
    range: values.range,
  };
}

function printEntry({ type, mode, size, name, nameBytes, ...link }: FileEntry): string {
  const { linkname, linknameBytes, dangling } = link;
  const shown = printForTerminal(parseDescribed(name, nameBytes));
  const note = dangling === true ? ' (dangling)' : '';
  const target =
    linkname === undefined ? '' : ` -> ${printForTerminal(parseDescribed(linkname, linknameBytes))}${note}`;
  const permissions = printPermissions(mode);
  return `${TYPE_LETTERS[type] ?? '-'} ${permissions} ${String(size).padStart(12)}  ${shown}${target}`;
}
