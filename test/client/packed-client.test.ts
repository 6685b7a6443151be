import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { runProgram, tryProgram } from '../helpers/programs.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** A project that has installed the package, with the example as its program. */
let project: string;

beforeAll(async () => {
  project = await temporaryFolder();
  const source = join(project, 'source');
  await mkdir(source);
  const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as Record<string, unknown>;
  // The client needs none of the dependencies, which would make the tarball large.
  const { bundleDependencies: _bundled, ...packed } = manifest;
  await writeFile(join(source, 'package.json'), JSON.stringify(packed));
  await cp(join(ROOT, 'dist'), join(source, 'dist'), { recursive: true });
  const flags = ['--ignore-scripts', '--json', '--pack-destination', project];
  await runProgram('npm', ['pack', ...flags], { cwd: source });
  const installed = join(project, 'node_modules', 'spandrel');
  await mkdir(installed, { recursive: true });
  const tarball = join(project, `spandrel-${String(manifest['version'])}.tgz`);
  await runProgram('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1']);
  await cp(join(ROOT, 'config/examples/client.ts'), join(project, 'client.ts'));
  await writeFile(join(project, 'package.json'), '{"type":"module"}');
});

describe('spandrel/client, as npm pack gives it', () => {
  it.each([
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ])('has types that a strict program compiles with: module %s, resolved by %s', async (...options) => {
    const [module, resolution] = options;
    const types = join(ROOT, 'node_modules/@types');
    const flags = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2024'];
    const resolved = ['--module', module, '--moduleResolution', resolution];
    const modules = [...resolved, '--typeRoots', types, '--types', 'node'];
    const wrong = (await readFile(join(project, 'client.ts'), 'utf8')).replace('lazy }', 'lazily }');
    await writeFile(join(project, 'wrong.ts'), wrong);
    const { stdout } = await tryProgram('tsc', [...flags, ...modules, 'client.ts', 'wrong.ts'], {
      cwd: project,
    });
    const errors = stdout
      .toString()
      .split('\n')
      .filter((line) => /^\S/.test(line));
    expect(errors.filter((line) => !line.startsWith('wrong.ts'))).toEqual([]);
    expect(errors[0]).toContain("'lazily' does not exist on type 'JobImage'");
  });

  it('warms, lists and reads an image through a proxy', async () => {
    const upstream = cleanup.use(await LayoutUpstream.start('docker-single'));
    const app = await proxyWith(upstream.registry, {
      environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' },
    });
    const environment = { SPANDREL_PROXY: app.url, SPANDREL_ADMIN: app.adminUrl };
    const run = (path: string): ReturnType<typeof tryProgram> =>
      tryProgram('node', ['client.ts', 'up/app:latest', path], { cwd: project, environment });
    const { entries } = (await (await fetch(`${app.url}/v2/up/app/_soci/images/latest/files/`)).json()) as {
      entries: { name: string; type: string }[];
    };
    const file = 'usr/lib/f001.txt';
    const bytes = await upstream.file(file);
    const { status, stdout } = await run(file);
    expect({ status, lines: stdout.toString().trimEnd().split('\n') }).toEqual({
      status: 0,
      lines: [
        'linux/amd64 lazy',
        upstream.digest,
        ...entries.map(({ name, type }) => `${type} ${name}`),
        `${bytes.subarray(0, 16).toString('hex')} of ${bytes.length} bytes`,
      ],
    });
    const missing = await run('no/such/file');
    expect([missing.status, missing.stderr.toString()]).toEqual([
      1,
      expect.stringContaining('FILE_UNKNOWN: ') as string,
    ]);
  });
});
