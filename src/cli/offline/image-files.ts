import { once } from 'node:events';
import { posix } from 'node:path';
import { parseArgs } from 'node:util';

import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { describeMode, type DescribedMode, printPermissions } from '../../tar/describe-mode.ts';
import { percentEncode } from '../../tar/percent-encode.ts';
import {
  type Described,
  describeRawText,
  parseDescribed,
  printForTerminal,
  type RawText,
} from '../../tar/raw-text.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { readPathArgument } from '../terminal/read-path-argument.ts';
import { parseUrlFlag } from '../terminal/parse-url-flag.ts';
import { printJson } from '../terminal/print-json.ts';
import { askProxy, locateImage, USUAL_PROXY } from '../terminal/ask-proxy.ts';
import { UsageError } from '../terminal/usage-error.ts';

/** An entry of a folder, as the file API returns it. */
interface Entry extends Described<'name'>, DescribedMode, Partial<Described<'linkname'>> {
  readonly dangling?: boolean;
  readonly type: string;
  readonly size: number;
  /** `null` for a folder that no layer contains itself. */
  readonly layer: string | null;
}

interface Listing extends Described<'path'> {
  readonly entries: readonly Entry[];
  /** Start of the next page; absent on the last page. */
  readonly next?: string;
}

interface FileRequest {
  /** `<proxy>/v2/<name>/_soci/images/<reference>/files/` */
  readonly base: string;
  readonly platform: string | undefined;
  /** `next` of the previous page. */
  readonly after?: string;
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
  const listing = await readListing(request);
  if (listing === undefined) return stat(args);
  if (request.json) {
    const entries: Entry[] = [];
    for await (const page of pagesFrom(request, listing)) entries.push(...page.entries);
    const { next: _, ...rest } = listing;
    printJson({ ...rest, entries });
    return 0;
  }
  for await (const { entries } of pagesFrom(request, listing))
    process.stdout.write(entries.map((entry) => `${printEntry(entry)}\n`).join(''));
  return 0;
}

/** All pages of a listing. */
async function* pagesFrom(request: FileRequest, first: Listing): AsyncGenerator<Listing, void, void> {
  for (let page: Listing | undefined = first; page !== undefined;) {
    yield page;
    page = page.next === undefined ? undefined : await readListing({ ...request, after: page.next });
  }
}

/** `spandrel cat`: prints a file. Only the spans that contain it are fetched. */
export async function cat(args: string[]): Promise<number> {
  const { range, ...request } = await parseFileRequest(args);
  const response = await askProxy(urlOf(request), {
    headers: range === undefined ? {} : { range: `bytes=${range}` },
  });
  if (isListing(response)) {
    await response.body?.cancel();
    throw new SpandrelError('FILE_NOT_REGULAR', `${printForTerminal(request.path)} is a folder`);
  }
  try {
    for await (const chunk of response.body ?? []) {
      if (!process.stdout.write(chunk)) await once(process.stdout, 'drain');
    }
  } catch (error) {
    throw new SpandrelError('UPSTREAM_UNREACHABLE', 'the response ended early', { cause: error });
  }
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

async function findEntry({ path, ...request }: FileRequest): Promise<Entry | undefined> {
  const parent = { ...request, path: posix.dirname(path) as RawText };
  const first = await readListing(parent);
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
  const { repositoryUrl, reference, platform = values.platform } = locateImage(proxy.href, image);
  return {
    base: `${repositoryUrl}/_soci/images/${reference}/files`,
    platform,
    path: posix.resolve('/', await readPathArgument(path, values.encoded)) as RawText,
    json: values.json,
    range: values.range,
  };
}

function urlOf({
  base,
  path,
  platform,
  after,
}: Pick<FileRequest, 'base' | 'path' | 'platform' | 'after'>): string {
  const query = new URLSearchParams({
    ...(platform === undefined ? {} : { platform }),
    ...(after === undefined ? {} : { after }),
  });
  return `${base}${percentEncode(path)}${query.size === 0 ? '' : `?${query.toString()}`}`;
}

/** `undefined` if the path is not a folder. */
async function readListing(request: FileRequest): Promise<Listing | undefined> {
  let response: Response;
  try {
    response = await askProxy(urlOf(request));
  } catch (error) {
    // A dangling link has an entry of its own.
    if (isSpandrelError(error, 'FILE_NOT_REGULAR', 'FILE_UNKNOWN')) return undefined;
    throw error;
  }
  if (isListing(response)) return (await response.json()) as Listing;
  await response.body?.cancel();
  return undefined;
}

/** Files are always sent as application/octet-stream. */
function isListing(response: Response): boolean {
  return response.headers.get('content-type') === 'application/json';
}

function printEntry({ type, mode, size, name, nameBytes, ...link }: Entry): string {
  const { linkname, linknameBytes, dangling } = link;
  const shown = printForTerminal(parseDescribed(name, nameBytes));
  const note = dangling === true ? ' (dangling)' : '';
  const target =
    linkname === undefined ? '' : ` -> ${printForTerminal(parseDescribed(linkname, linknameBytes))}${note}`;
  const permissions = printPermissions(mode);
  return `${TYPE_LETTERS[type] ?? '-'} ${permissions} ${String(size).padStart(12)}  ${shown}${target}`;
}
