import {
  chmod,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { ContainerdDaemon } from '../helpers/upstreams/containerd-daemon.ts';
import { seededText } from '../helpers/layers/gzip-corpus.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import {
  gzipped,
  plain,
  pullManifest,
  type ServedManifest,
  sha256,
  startInflating,
  zstd,
} from '../helpers/images/inflated-image.ts';
import { OCI } from '../helpers/lazy-app.ts';
import { runProgram } from '../helpers/programs.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** Each is a layer. */
const FOLDERS = ['etc', 'usr', 'srv'] as const;

/** What the layers were made of. */
let source: string;
/** `host:port/name:tag` at the proxy. */
let image: string;
let configDigest: string;
let tarDigests: readonly string[];
let served: readonly string[];

beforeAll(async () => {
  source = await temporaryFolder();
  for (const [seed, folder] of FOLDERS.entries()) await fill(join(source, folder), seed);
  const [etc, usr, srv] = await Promise.all(
    FOLDERS.map((folder) => runProgram('tar', ['-C', source, '-cf', '-', folder])),
  );
  if (etc === undefined || usr === undefined || srv === undefined) throw new Error('too few layers');
  const upstream = cleanup.use(await ImageUpstream.start());
  await upstream.addImage('team/app', [gzipped(etc), zstd(usr), plain(srv)]);
  const original = await fetch(`${upstream.url}/v2/team/app/manifests/latest`, { headers: { accept: OCI } });
  configDigest = ((await original.json()) as ServedManifest).config.digest;
  const app = await startInflating(upstream);
  const { manifest } = await pullManifest(app);
  tarDigests = [etc, usr, srv].map(sha256);
  served = manifest.layers.map(({ digest }) => digest);
  image = `${new URL(app.url).host}/up/team/app:latest`;
});

async function fill(folder: string, seed: number): Promise<void> {
  await mkdir(join(folder, 'deep/er'), { recursive: true });
  const text = seededText(seed, 300_000);
  await writeFile(join(folder, 'deep/er/text'), text);
  await link(join(folder, 'deep/er/text'), join(folder, 'hard'));
  await symlink('deep/er/text', join(folder, 'soft'));
  await writeFile(join(folder, 'program'), text.slice(0, 1000));
  await chmod(join(folder, 'program'), 0o4755);
  for (const name of ['program', 'deep/er/text', 'deep/er', 'deep', '.'])
    await utimes(join(folder, name), 1_700_000_000 + seed, 1_700_000_000 + seed);
}

/** One line for each file: everything that a container can see of it. */
async function listTree(folder: string): Promise<string[]> {
  const lines: string[] = [];
  for (const top of FOLDERS) {
    const names = (await readdir(join(folder, top), { recursive: true })).toSorted();
    for (const name of ['.', ...names]) {
      const path = join(folder, top, name);
      const { mode, uid, gid, mtimeMs, nlink } = await lstat(path);
      const kind = mode & 0o170_000;
      const content =
        kind === 0o120_000
          ? await readlink(path)
          : kind === 0o100_000
            ? `${sha256(await readFile(path))} ${nlink}`
            : '';
      // Clients set no time of a symbolic link.
      const seconds = kind === 0o120_000 ? '' : Math.floor(mtimeMs / 1000);
      lines.push([join(top, name), mode.toString(8), uid, gid, seconds, content].join(' '));
    }
  }
  return lines;
}

it('skopeo copies the tars, each verified by its digest, and the config of the original', async () => {
  expect(served).toEqual(tarDigests);
  const folder = await temporaryFolder();
  const copy = ['copy', '--insecure-policy', '--quiet', '--src-tls-verify=false'];
  await runProgram('skopeo', [...copy, `docker://${image}`, `dir:${folder}`]);
  for (const digest of [...tarDigests, configDigest])
    expect(sha256(await readFile(join(folder, digest.slice('sha256:'.length))))).toBe(digest);
});

it.each(['podman', 'buildah'] as const)(
  '%s pulls and unpacks the tree that the layers were made of, under the ID of the original',
  async (command) => {
    // podman refuses a run root of more than 50 characters.
    const root = await temporaryFolder();
    const storage = ['--root', `${root}/s`, '--runroot', `${root}/r`, '--storage-driver', 'vfs'];
    const run = async (...args: string[]): Promise<string> =>
      (await runProgram(command, [...storage, ...args])).toString().trim();
    expect(`sha256:${await run('pull', '--quiet', '--tls-verify=false', image)}`).toBe(configDigest);
    const mount = command === 'podman' ? ['image', 'mount', image] : ['mount', await run('from', image)];
    expect(await listTree(await run(...mount))).toEqual(await listTree(source));
  },
);

it('containerd without a snapshotter unpacks the tree that the layers were made of', async () => {
  await using containerd = await ContainerdDaemon.start();
  await containerd.pull(image, '--plain-http');
  const tree = await containerd.mounted(image, listTree);
  expect(tree).toEqual(await listTree(source));
});
