import { readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

import type { FileDescription } from '../../boot/profiles/describe-profile.ts';
import { SpandrelError } from '../../core/errors.ts';
import { escapeLines } from '../../core/escape-controls.ts';
import { parseImageReference } from '../../core/image-reference.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { printJson } from '../terminal/print-json.ts';
import { ADMIN_FLAGS, type AdminValues, reachAdmin } from '../config/reach-admin.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { ProfilesClient, type RepositoryProfileJson } from './profiles-client.ts';

const FLAGS = {
  file: {
    type: 'string',
    short: 'f',
    value: 'FILE',
    about: 'file of the profiles (default: standard output of export, standard input of import)',
  },
  ...ADMIN_FLAGS,
  json: { type: 'boolean', default: false, about: 'print JSON instead of text' },
} satisfies Flags;

export const PROFILE_HELP: CommandHelp = {
  usage: [
    'profile show IMAGE [--json] [flags]',
    'profile export [IMAGE] [--file FILE] [flags]',
    'profile import [IMAGE] [--file FILE] [--json] [flags]',
  ],
  about: [
    'Shows and carries boot profiles: which files containers read when they start. A running proxy learns ' +
      'one for each repository from the requests of lazy nodes. A tag or digest of IMAGE ' +
      '(upstream/repository) does not matter: a profile is that of the repository.',
    [
      'show',
      'prints the files in the order of first touch: share of the starts that read it, share of it ' +
        'that they read, size, path',
    ],
    ['export', 'writes the profile of IMAGE, or all, as JSON'],
    [
      'import',
      'replaces profiles by exported ones. With IMAGE, the file must have one profile, which becomes ' +
        'that of IMAGE: from a staging cluster, for example',
    ],
    'The environment configures address and token too: SPANDREL_ADMIN_TOKEN.',
  ],
  flags: FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable],
};

interface Values extends AdminValues {
  readonly file?: string | undefined;
  readonly json: boolean;
}

/** `spandrel profile`: shows, exports and imports what starts of containers read. */
export async function profile(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: FLAGS });
  const [verb, image, ...more] = positionals;
  if (more.length > 0) throw new UsageError('expected at most one image');
  switch (verb) {
    case 'show':
      if (image === undefined) throw new UsageError('expected an image like upstream/repository');
      return show(image, values);
    case 'export':
      return exportProfiles(image, values);
    case 'import':
      return importProfiles(image, values);
    default:
      throw new UsageError('expected show, export or import');
  }
}

async function show(image: string, values: Values): Promise<number> {
  const client = await openClient(values);
  const found = await client.read(repositoryOf(image));
  if (values.json) printJson(found);
  else process.stdout.write(`${escapeLines(describe(found))}\n`);
  return EXIT.ok;
}

async function exportProfiles(image: string | undefined, values: Values): Promise<number> {
  const client = await openClient(values);
  const profiles = image === undefined ? await client.readAll() : [await client.read(repositoryOf(image))];
  const document = `${JSON.stringify({ profiles })}\n`;
  if (values.file === undefined) process.stdout.write(document);
  else await writeFile(values.file, document);
  return EXIT.ok;
}

async function importProfiles(image: string | undefined, values: Values): Promise<number> {
  const document =
    values.file === undefined ? await text(process.stdin) : await readFile(values.file, 'utf8');
  const parsed = parseDocument(document);
  const [first, ...others] = parsed;
  if (image !== undefined && (first === undefined || others.length > 0))
    throw new SpandrelError(
      'QUERY_INVALID',
      `the file has ${parsed.length} profiles: only one can become that of an image`,
    );
  const profiles = image === undefined ? parsed : [{ ...first, repository: repositoryOf(image) }];
  const client = await openClient(values);
  for (const one of profiles) await client.replace(one);
  if (values.json) printJson({ imported: profiles.length });
  else
    process.stdout.write(`${profiles.length} ${profiles.length === 1 ? 'profile' : 'profiles'} imported\n`);
  return EXIT.ok;
}

/** @throws SpandrelError QUERY_INVALID */
function parseDocument(document: string): readonly object[] {
  const value = tryParseJson(document) as { readonly profiles?: unknown } | null | undefined;
  const profiles = value?.profiles;
  if (Array.isArray(profiles) && profiles.every((one) => typeof one === 'object' && one !== null))
    return profiles as object[];
  throw new SpandrelError('QUERY_INVALID', 'not a file of exported profiles');
}

function repositoryOf(image: string): string {
  return parseImageReference(image).name;
}

async function openClient(values: Values): Promise<ProfilesClient> {
  const { token, ...listener } = await reachAdmin(values);
  return new ProfilesClient(listener, token);
}

function describe({ repository, starts, files }: RepositoryProfileJson): string {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const width = String(Math.max(0, ...files.map((file) => file.bytes))).length;
  const lines = files.map((file) => describeFile(file, width));
  const counted = starts < 2 ? '; it counts from two on' : '';
  return [...lines, `${repository}: ${starts} starts${counted}, ${files.length} files, ${bytes} bytes`].join(
    '\n',
  );
}

function describeFile({ startShare, readShare, bytes, path }: FileDescription, width: number): string {
  const percent = (share: number): string => `${String(Math.round(share * 100)).padStart(3)} %`;
  return `${percent(startShare)}  ${percent(readShare)}  ${String(bytes).padStart(width)}  ${path}`;
}
