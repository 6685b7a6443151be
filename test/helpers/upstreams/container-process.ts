import { chmod, chown, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

import { startProgram, tryProgramSync } from '../programs.ts';
import { SpandrelProcess } from '../spandrel-process.ts';
import { temporaryFolder } from '../temporary-folder.ts';

const REPOSITORY = resolve(import.meta.dirname, '../../..');
const UNPRIVILEGED = '--clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all';
const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What an image's Dockerfile says of the process, and what is added to it where it is run. */
export interface ContainerSettings {
  readonly workFolder: string;
  /** User and group. */
  readonly user: { readonly uid: number; readonly gid: number };
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /** The only folder that may be written. */
  readonly volume: string;
  /** Files by their path in the container. */
  readonly files: Readonly<Record<string, string>>;
}

/**
 * Whether this machine lets us make a root of the container's own: root may, unless it is in a container
 * without privileges itself.
 */
export function canMakeRoot(): boolean {
  return tryProgramSync('unshare', ['--mount', 'true']).status === 0;
}

/**
 * Run the built command as a container runtime would: with a root that cannot be written and has nothing in
 * it but what the image has, as the image's user, without capabilities. The network is that of the machine.
 * The folders go with the test.
 */
export async function startContainer(settings: ContainerSettings): Promise<SpandrelProcess> {
  const { workFolder, user, environment, volume, files, command } = settings;
  const [root, store] = [await temporaryFolder(), await temporaryFolder()];
  await chmod(root, 0o755);
  await chown(store, user.uid, user.gid);
  const inImage: [from: string, to: string][] = [
    ['/usr/lib', '/usr/lib'],
    ['/usr/lib64', '/usr/lib64'],
    ['/proc', '/proc'],
    ['/dev', '/dev'],
    [join(REPOSITORY, 'dist'), join(workFolder, 'dist')],
    [join(REPOSITORY, 'node_modules'), join(workFolder, 'node_modules')],
  ];
  const programs = { node: process.execPath, setpriv: '/usr/bin/setpriv' };
  for (const to of [...inImage.map(([, to]) => to), volume, '/tmp', '/usr/local/bin'])
    await mkdir(join(root, to), { recursive: true });
  for (const name of ['lib', 'lib64']) await symlink(`usr/${name}`, join(root, name));
  for (const [name, from] of Object.entries(programs))
    await copyFile(from, join(root, 'usr/local/bin', name));
  await copyFile(join(REPOSITORY, 'package.json'), join(root, workFolder, 'package.json'));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  const script = [
    'set -e',
    // A mount of its own, so that it can be made read-only.
    `mount --bind '${root}' '${root}'`,
    ...inImage.map(([from, to]) => `mount --bind '${from}' '${root}${to}'`),
    ...['', ...inImage.map(([, to]) => to)].map((to) => `mount -o remount,bind,ro '${root}${to}'`),
    `mount --bind '${store}' '${root}${volume}'`,
    `exec unshare --root='${root}' --wd='${workFolder}' setpriv --reuid=${user.uid} --regid=${user.gid} ${UNPRIVILEGED} "$@"`,
  ].join('\n');
  const variables = Object.entries({ PATH: USUAL_PATH, ...environment }).map((pair) => pair.join('='));
  const isolated = ['unshare', '--mount', 'sh', '-c', script, 'sh', ...command];
  const child = startProgram('env', ['-i', ...variables, ...isolated], { stdio: ['ignore', 'pipe', 'pipe'] });
  return new SpandrelProcess(command, {}, undefined, child);
}

/**
 * The same where no root can be made: the built command with the same environment, files and volume
 * elsewhere, as whoever we are.
 */
export async function startUnconfined(settings: ContainerSettings): Promise<SpandrelProcess> {
  const folder = await temporaryFolder();
  const place = (text: string): string => text.replaceAll(settings.volume, join(folder, 'volume'));
  const paths = new Map<string, string>();
  for (const [path, text] of Object.entries(settings.files)) {
    paths.set(path, join(folder, path));
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), place(text));
  }
  const [, ...args] = settings.command.map((word) => paths.get(word) ?? word);
  const environment = Object.fromEntries(
    Object.entries(settings.environment).map(([name, value]) => [name, place(value)]),
  );
  const variables = Object.entries(environment).map((pair) => pair.join('='));
  const child = startProgram('env', ['-i', ...variables, process.execPath, ...args], {
    cwd: REPOSITORY,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return new SpandrelProcess(args, {}, undefined, child);
}
