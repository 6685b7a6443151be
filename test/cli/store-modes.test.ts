import { chmod, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { startProgram } from '../helpers/programs.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const BIN = new URL('../../src/cli/bin.ts', import.meta.url).pathname;

let folder: string;
let root: string;
let upstream: LayoutUpstream;

beforeEach(async () => {
  folder = await temporaryFolder();
  root = join(folder, 'store');
  upstream = cleanup.use(await LayoutUpstream.start('platforms-all'));
});

/** `serve` as a shell with this umask starts it. */
function serve(umask: string): SpandrelProcess {
  const environment = {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: root,
    SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
    SPANDREL_INDEX_SPAN_BYTES: '16384',
    SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'hub', url: upstream.url }]),
  };
  const script = `umask ${umask}; exec "${process.execPath}" "${BIN}" serve`;
  const child = startProgram('bash', ['-c', script], { environment, stdio: ['ignore', 'pipe', 'pipe'] });
  return cleanup.use(new SpandrelProcess(['serve'], environment, undefined, child));
}

/** Everything in the store, the folder itself included, with its permissions. */
async function modes(): Promise<Record<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const found: Record<string, string> = {};
  for (const path of [root, ...entries.map(({ parentPath, name }) => join(parentPath, name))]) {
    // Arriving files may have got their names since.
    const mode = await kindAndMode(path).catch(() => undefined);
    if (mode !== undefined) found[relative(root, path)] = mode;
  }
  return found;
}

async function kindAndMode(path: string): Promise<string> {
  const { mode } = await stat(path);
  return `${(mode & 0o170000) === 0o040000 ? 'folder' : 'file'} ${(mode & 0o7777).toString(8)}`;
}

async function pull(child: SpandrelProcess): Promise<void> {
  const repository = `${(await child.listening()).url}/v2/hub/app`;
  const overview = (await (await fetch(`${repository}/_soci/images/latest`)).json()) as {
    platforms: { layers: { digest: string }[] }[];
  };
  for (const { digest } of overview.platforms.flatMap(({ layers }) => layers))
    for (const path of [`blobs/${digest}`, `_soci/layers/${digest}/tar`])
      expect((await (await fetch(`${repository}/${path}`)).arrayBuffer()).byteLength).toBeGreaterThan(0);
}

describe('the files of the store', () => {
  it.each(['000', '022', '0777'])(
    'are accessible to their owner only, whatever the umask (%s)',
    async (umask) => {
      const child = serve(umask);
      await pull(child);
      const found = await modes();
      // Blobs, indexes, zTOCs, manifests, tags and three databases.
      expect(Object.keys(found).length).toBeGreaterThan(20);
      expect(new Set(Object.values(found))).toEqual(new Set(['folder 700', 'file 600']));
    },
  );

  it('are closed to other users at start, those of earlier releases too', async () => {
    const first = serve('022');
    await pull(first);
    first.kill('SIGTERM');
    expect(await first.exitStatus()).toBe(0);
    for (const [path, kind] of Object.entries(await modes()))
      await chmod(join(root, path), kind.startsWith('folder') ? 0o755 : 0o644);
    await mkdir(join(root, 'of-a-later-release'), { mode: 0o777 });
    await serve('022').listening();
    expect(new Set(Object.values(await modes()))).toEqual(new Set(['folder 700', 'file 600']));
  });

  it("keep the owner's permissions, so that a wrong storage.root breaks no programs there", async () => {
    await mkdir(root);
    await writeFile(join(root, 'program'), '');
    await chmod(join(root, 'program'), 0o755);
    await serve('022').listening();
    expect(await kindAndMode(join(root, 'program'))).toBe('file 700');
  });

  it('are not looked for behind symbolic links', async () => {
    const outside = join(folder, 'outside');
    await writeFile(outside, '');
    await chmod(outside, 0o644);
    await mkdir(root);
    await symlink(outside, join(root, 'link'));
    await serve('022').listening();
    expect(await kindAndMode(outside)).toBe('file 644');
  });
});
