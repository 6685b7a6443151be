import { beforeAll, describe, expect, it } from 'vitest';

import type { Finding } from '../../src/cli/doctor/finding.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/demo-upstream.ts';
import { NodeTree } from '../helpers/node-tree.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream } from '../helpers/scripted-upstream.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';

let app: RunningApp;

beforeAll(async () => {
  const demo = cleanup.use(await startDemoRegistry());
  const locked = cleanup.use(
    await ScriptedUpstream.start((_request, response) =>
      response.writeHead(401, { 'www-authenticate': 'Basic realm="locked"' }).end(),
    ),
  );
  app = cleanup.use(
    await RunningApp.start({
      upstreams: [
        { name: 'demo', url: demo.url },
        { name: 'locked', url: locked.url },
      ],
      environment: { SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]' },
    }),
  );
});

interface Answer {
  readonly status: number | null;
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

async function doctor(...args: string[]): Promise<Answer> {
  await using child = new SpandrelProcess(['doctor', '--json', '--proxy', app.url, ...args]);
  const status = await child.exitStatus();
  return { status, ...(JSON.parse(child.stdout) as { ok: boolean; findings: Finding[] }) };
}

function messages({ findings }: Answer, area: Finding['area'], status: Finding['status']): string[] {
  return findings
    .filter((found) => found.area === area && found.status === status)
    .map(({ message }) => message);
}

describe('spandrel doctor', () => {
  it('explains an image layer by layer, before and after its first lazy pull', async () => {
    const before = await doctor('--no-node', 'demo/app:latest@linux/amd64');
    expect([before.status, before.ok]).toEqual([1, false]);
    expect(messages(before, 'image', 'problem')).toEqual([
      expect.stringMatching(/^linux\/amd64: no SOCI index/),
    ]);
    const notes = messages(before, 'image', 'note');
    expect(notes.filter((note) => note.includes('has not been indexed yet'))).toHaveLength(3);
    expect(notes.filter((note) => note.includes('smaller than index.minLayerBytes'))).toHaveLength(2);
    expect(notes.filter((note) => note.includes('has no zTOC (zstd)'))).toHaveLength(1);

    await fetch(`${app.url}/v2/demo/app/manifests/latest`, {
      headers: {
        'user-agent': 'containerd/2.2.6',
        accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json',
      },
    });
    const after = await doctor('--no-node', 'demo/app:latest@linux/amd64');
    expect([after.status, after.ok]).toEqual([0, true]);
    expect(messages(after, 'image', 'ok').at(-1)).toMatch(/^linux\/amd64: lazy, 3 of 6 layers by a SOCI v2/);
  });

  it.each([
    ['demo/app:nothing', /MANIFEST_UNKNOWN/, /look for the tag/],
    ['nobody/app:1', /no upstream for this name/, /begin the name/],
    ['locked/app:1', /UPSTREAM_CREDENTIALS_REFUSED|401/, /credentials for this upstream/],
    ['demo/app:latest@plan9/mips', /no platform plan9\/mips/, /linux\/amd64, linux\/arm64/],
  ])('says what is wrong with %s, and what to do', async (image, message, next) => {
    const { status, findings } = await doctor('--no-node', image);
    const problem = findings.find(({ status: found }) => found === 'problem');
    expect([status, problem?.message, problem?.next]).toEqual([
      1,
      expect.stringMatching(message),
      expect.stringMatching(next),
    ]);
  });

  it('checks the upstreams of a configuration', async () => {
    await using tree = await NodeTree.create({
      '/spandrel.yaml': `upstreams:\n  - { name: locked, url: '${app.url}/nothing/here' }\n  - { name: self, host: self.example, url: '${app.url}' }\n`,
    });
    const answer = await doctor('--no-node', '--config', `${tree.root}/spandrel.yaml`);
    expect(messages(answer, 'upstream', 'problem')).toHaveLength(1);
    expect(messages(answer, 'upstream', 'ok')).toEqual([expect.stringMatching(/^self .* is reachable/)]);
  });

  it('says that a node does not look for the kind of index that exists', async () => {
    await using tree = await NodeTree.create({
      '/etc/containerd/config.toml': 'version = 2',
      '/etc/soci-snapshotter-grpc/config.toml': '[pull_modes.soci_v2]\nenable = false',
    });
    const answer = await doctor('--root', tree.root, 'demo/app:latest@linux/amd64');
    expect(messages(answer, 'image', 'problem')).toEqual([expect.stringMatching(/does not look for one/)]);
    expect(messages(answer, 'snapshotter', 'problem')).toContainEqual(expect.stringMatching(/both off/));
  });

  it('prints its findings as text, with what to do next', async () => {
    const gone = await ScriptedUpstream.start(() => undefined);
    await gone[Symbol.asyncDispose]();
    await using child = new SpandrelProcess(['doctor', '--no-node', '--proxy', gone.url]);
    expect(await child.exitStatus()).toBe(1);
    expect(child.stdout).toMatch(
      /^proxy {7}PROBLEM {2}nothing responds at .*ECONNREFUSED.*\n {21}-> start it/,
    );
    expect(child.stdout).toMatch(/\n1 problem\n$/);
  });

  it.each([[['a', 'b']], [['--proxy', 'nonsense']], [['--unknown']]])('refuses %j', async (args) => {
    await using child = new SpandrelProcess(['doctor', ...args]);
    expect(await child.exitStatus()).toBe(2);
  });
});
