import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { locateImage } from '../../../src/client/locate-image.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { startDemoRegistry } from '../../helpers/upstreams/demo-upstream.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { gnuTar } from '../../oracles/gnu-tar.ts';

let app: RunningApp;
/** What GNU tar takes out of the layer that has the application. */
let main: string;

beforeAll(async () => {
  const demo = cleanup.use(await startDemoRegistry());
  app = await proxyWith(demo, { upstream: { name: 'demo' } });
  const scratch = await temporaryFolder();
  const { layer } = JSON.parse((await run('stat', 'demo/app', '/app/main.py', '--json')).stdout) as {
    layer: string;
  };
  const blob = await fetch(`${demo.url}/v2/app/blobs/${layer}`);
  await writeFile(join(scratch, 'layer.tar.gz'), Buffer.from(await blob.arrayBuffer()));
  main = (await gnuTar.read(join(scratch, 'layer.tar.gz'), 'app/main.py')).toString();
});

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess([...args, '--proxy', app.url]);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

describe('spandrel ls, cat and stat', () => {
  it('print a file byte for byte, a range of it, and of another platform', async () => {
    expect(main.length).toBeGreaterThan(100);
    expect((await run('cat', 'demo/app:latest', '/app/main.py')).stdout).toBe(main);
    expect((await run('cat', 'demo/app@linux/arm64', 'app/../app/main.py')).stdout).toBe(main);
    expect((await run('cat', 'demo/app', '/app/main.py', '--range', '3-7')).stdout).toBe(main.slice(3, 8));
  });

  it('list a folder, for people and as JSON', async () => {
    const { stdout } = await run('ls', 'demo/app', '/app');
    expect(stdout).toMatch(new RegExp(`^- 0755 {10,}${main.length} {2}main.py$`, 'm'));
    const listing = JSON.parse((await run('ls', 'demo/app', '/app', '--json')).stdout) as {
      path: string;
      entries: { name: string }[];
    };
    expect(listing.entries.map(({ name }) => name)).toContain('main.py');
    expect((await run('ls', 'demo/app', '/app/main.py')).stdout).toMatch(/main\.py/);
  });

  it('print the type and the layer of a path', async () => {
    const folder = JSON.parse((await run('stat', 'demo/app', '/etc', '--json')).stdout) as object;
    expect(folder).toMatchObject({ path: '/etc', name: 'etc', type: 'dir', mode: 0o755, modeText: '0755' });
  });

  it.each([
    [['cat', 'demo/app', '/app'], 1, 'FILE_NOT_REGULAR'],
    [['cat', 'demo/app', '/nothing'], 3, 'FILE_UNKNOWN'],
    [['stat', 'demo/app', '/nothing'], 3, 'FILE_UNKNOWN'],
    [['ls', 'demo/nothing', '/'], 3, 'NAME_UNKNOWN'],
    [['ls'], 2, 'expected an image'],
  ])('%j ends with its status and one line', async (args, status, text) => {
    const answer = await run(...args);
    expect([answer.status, answer.stdout]).toEqual([status, '']);
    expect(answer.stderr.split('\n')[0]).toContain(text);
  });
});

describe('locateImage', () => {
  const digest = `sha256:${'0'.repeat(64)}`;

  it.each([
    ['ecr/team/app:1.2', 'ecr/team/app', '1.2', undefined],
    ['ecr/team/app', 'ecr/team/app', 'latest', undefined],
    [`ecr/app@${digest}`, 'ecr/app', digest, undefined],
    ['ecr/app:1@linux/arm64/v8', 'ecr/app', '1', 'linux/arm64/v8'],
    [`ecr/app@${digest}@linux/amd64`, 'ecr/app', digest, 'linux/amd64'],
    ['proxy:5000/ecr/app:1', 'ecr/app', '1', undefined],
  ])('parses %s', (text, name, reference, platform) => {
    expect(locateImage('http://proxy:5000/', text)).toEqual({
      repositoryUrl: `http://proxy:5000/v2/${name}`,
      reference,
      platform,
    });
  });
});
